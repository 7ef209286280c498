//! What an engine tells of sketches.

use super::Engine;
use crate::event::Output;
use crate::plan::Kind;

impl Engine {
    /// As [`Engine::flush`], for sketches only.
    pub(crate) fn flush_sketches(&mut self, out: &mut Vec<Output>) {
        let Kind::Events(stream) = self.shard.kind else {
            return;
        };
        for name in self.state.sketched.drain(..) {
            let owner = self.state.owners.get_mut(&name);
            let owner = owner.expect("a tenant is never forgotten");
            owner.flush_sketches(&name, stream, out);
        }
    }
}
