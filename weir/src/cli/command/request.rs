//! What tenants ask for, and what they are answered.

use clap::Subcommand;

use super::{Call, End, Given, Server, number, only, text};

/// The kind of command that a request is.
pub(super) const ASK: &str = "ask";
/// Where requests are sent, and listed.
pub(super) const PATH: &str = "/v1/requests";

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum RequestCommand {
    /// Ask that a limit have another number, with a tenant's token: operators are told, and answer
    Ask {
        /// Such as tenant/acme or tenant/acme/user/u_9
        subject: String,
        /// The limit, by its name in the policy
        #[arg(long, value_name = "NAME")]
        limit: String,
        /// The number that is asked for, such as 120000 or "30 USD"
        #[arg(long, value_name = "NUMBER")]
        hard: String,
        #[command(flatten)]
        end: End,
        #[command(flatten)]
        given: Given,
    },
    /// Give what a request asks for, for a while; who asked is told
    Approve {
        /// The request's id
        request: String,
        #[command(flatten)]
        end: End,
        #[command(flatten)]
        given: Given,
    },
    /// Answer a request with no, and say why; who asked is told
    Decline {
        /// The request's id
        request: String,
        #[command(flatten)]
        given: Given,
    },
    /// List requests, newest first, with their answers
    Requests {
        /// Only those on this subject and all below it
        #[arg(long)]
        subject: Option<String>,
        /// Only those that are open, approved or declined
        #[arg(long)]
        state: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
}

impl RequestCommand {
    pub(super) fn call(self) -> Call {
        let (kind, fields, end, given) = match self {
            Self::Ask {
                subject,
                limit,
                hard,
                end,
                given,
            } => {
                let fields = vec![
                    ("subject", text(subject)),
                    ("limit", text(limit)),
                    ("hard", Some(number(hard))),
                ];
                (ASK, fields, end, given)
            }
            Self::Approve {
                request,
                end,
                given,
            } => ("approve", only("request", request), end, given),
            Self::Decline { request, given } => {
                ("decline", only("request", request), End::default(), given)
            }
            Self::Requests {
                subject,
                state,
                limit,
                server,
            } => {
                return Call::List {
                    path: PATH,
                    limit,
                    query: [("subject", subject), ("state", state)],
                    server,
                };
            }
        };
        Call::Give(kind, fields, end, given)
    }
}
