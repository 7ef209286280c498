//! Who is calling: keys by the hash of their secret, and what a caller may see.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::record::{Key, Role};
use crate::subject::Subject;
use crate::time::Timestamp;

/// Somebody whose key was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub key_id: String,
    pub role: Role,
    /// The one tenant it speaks for; `None`: the whole platform.
    pub tenant: Option<String>,
}

impl Caller {
    /// Whether it may report or ask for `tenant`.
    #[must_use]
    pub fn speaks_for(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }

    /// Whether it may see what concerns `subject`.
    #[must_use]
    pub fn may_see(&self, subject: &Subject) -> bool {
        match &self.tenant {
            None => true,
            Some(own) => subject.tenant_id().as_ref() == Some(own),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    #[error("no key: send `Authorization: Bearer KEY`")]
    Missing,
    #[error("this key is unknown, revoked, or past its end")]
    Unknown,
    #[error("this key may not do that; it needs another role")]
    Role,
}

/// The keys that stand, as `weir.keys.v1` has them. Holds hashes only.
#[derive(Debug, Default)]
pub struct KeyRing {
    by_id: HashMap<String, Key>,
    id_by_hash: HashMap<String, String>,
}

impl KeyRing {
    /// Takes one record of the topic; `None` forgets the key.
    pub fn apply(&mut self, id: &str, key: Option<Key>) {
        if let Some(old) = self.by_id.remove(id) {
            self.id_by_hash.remove(&old.sha256);
        }
        if let Some(key) = key {
            self.id_by_hash.insert(key.sha256.clone(), id.to_owned());
            self.by_id.insert(id.to_owned(), key);
        }
    }

    /// The caller behind an `Authorization` header's value, whatever the role.
    pub fn authenticate(&self, header: Option<&str>, now: Timestamp) -> Result<Caller, Denied> {
        let header = header.ok_or(Denied::Missing)?;
        let (scheme, secret) = header.split_once(' ').ok_or(Denied::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Missing);
        }
        let id = self
            .id_by_hash
            .get(&hash_secret(secret.trim()))
            .ok_or(Denied::Unknown)?;
        let key = self.by_id.get(id).ok_or(Denied::Unknown)?;
        if key.revoked || key.expires_at.is_some_and(|end| end <= now) {
            return Err(Denied::Unknown);
        }
        Ok(Caller {
            key_id: key.id.clone(),
            role: key.role,
            tenant: key.tenant.clone(),
        })
    }

    /// The caller behind an `Authorization` header's value, if its role is one of `roles`.
    pub fn authorize(
        &self,
        header: Option<&str>,
        roles: &[Role],
        now: Timestamp,
    ) -> Result<Caller, Denied> {
        let caller = self.authenticate(header, now)?;
        if roles.contains(&caller.role) {
            Ok(caller)
        } else {
            Err(Denied::Role)
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_id.values()
    }
}

/// SHA-256 of a secret in lowercase hex: the only form in which Weir keeps one.
#[must_use]
pub fn hash_secret(secret: &str) -> String {
    Sha256::digest(secret.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> KeyRing {
        let mut ring = KeyRing::default();
        let key = |id: &str, role, tenant: Option<&str>| Key {
            id: id.to_owned(),
            sha256: hash_secret(&format!("secret-{id}")),
            role,
            tenant: tenant.map(str::to_owned),
            created_at: Timestamp::from_seconds(0),
            expires_at: None,
            revoked: false,
            note: String::new(),
        };
        ring.apply("all", Some(key("all", Role::Ingest, None)));
        ring.apply("acme", Some(key("acme", Role::Tenant, Some("acme"))));
        ring.apply(
            "gone",
            Some(Key {
                revoked: true,
                ..key("gone", Role::Ingest, None)
            }),
        );
        let end = Some(Timestamp::from_seconds(10));
        ring.apply(
            "short",
            Some(Key {
                expires_at: end,
                ..key("short", Role::Ingest, None)
            }),
        );
        ring
    }

    #[track_caller]
    fn check(header: Option<&str>, expected: Result<&str, Denied>) {
        let caller = ring().authorize(header, &[Role::Ingest], Timestamp::from_seconds(10));
        assert_eq!(
            caller.as_ref().map(|c| c.key_id.as_str()),
            expected.as_ref().map(|id| *id)
        );
    }

    #[test]
    fn finds_callers_by_their_secret() {
        check(Some("Bearer secret-all"), Ok("all"));
        check(Some("bearer  secret-all "), Ok("all"));
        check(None, Err(Denied::Missing));
        check(Some("secret-all"), Err(Denied::Missing));
        check(Some("Basic secret-all"), Err(Denied::Missing));
        check(Some("Bearer "), Err(Denied::Unknown));
        check(Some("Bearer all"), Err(Denied::Unknown));
        check(Some("Bearer secret-gone"), Err(Denied::Unknown));
        check(Some("Bearer secret-short"), Err(Denied::Unknown));
        check(Some("Bearer secret-acme"), Err(Denied::Role));
    }

    #[test]
    fn a_replaced_key_is_no_longer_good() {
        let mut ring = ring();
        ring.apply("all", None);
        let now = Timestamp::from_seconds(0);
        assert_eq!(
            ring.authenticate(Some("Bearer secret-all"), now),
            Err(Denied::Unknown)
        );
    }

    #[test]
    fn a_tenant_sees_only_its_own() {
        let now = Timestamp::from_seconds(0);
        let caller = ring()
            .authenticate(Some("Bearer secret-acme"), now)
            .unwrap();
        for (subject, sees) in [
            ("tenant/acme", true),
            ("tenant/acme/key/k", true),
            ("tenant/acme2", false),
            ("platform", false),
            ("source/192.0.2.1", false),
        ] {
            assert_eq!(
                caller.may_see(&Subject::parse(subject).unwrap()),
                sees,
                "{subject}"
            );
        }
        assert!(caller.speaks_for("acme") && !caller.speaks_for("other"));
    }
}
