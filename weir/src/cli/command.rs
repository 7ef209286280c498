//! `weir command`: orders to a running Weir, and who gave which.

mod request;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::policy::client::Server;
use super::say;

#[derive(Debug, Subcommand)]
pub(super) enum CommandCommand {
    /// Give a limit other numbers for one subject; what was used stays used
    Raise {
        /// Such as tenant/acme or tenant/acme/user/u_9
        subject: String,
        /// The limit, by its name in the policy
        #[arg(long, value_name = "NAME")]
        limit: String,
        /// The number from which on calls are refused, such as 120000 or "30 USD"
        #[arg(long, value_name = "NUMBER", required_unless_present = "mode")]
        hard: Option<String>,
        /// Another mode: open records, block refuses
        #[arg(long)]
        mode: Option<String>,
        #[command(flatten)]
        end: End,
        #[command(flatten)]
        given: Given,
    },
    /// Count a limit anew for one subject: what was counted before counts no more
    Clear {
        /// Whom the limit is counted for, exactly: such as tenant/acme or tenant/acme/user/u_9
        subject: String,
        /// The limit, by its name in the policy
        #[arg(long, value_name = "NAME")]
        limit: String,
        #[command(flatten)]
        given: Given,
    },
    /// Pay into a wallet; what was refused for want of money is admitted again
    TopUp {
        /// Whose wallet, such as tenant/acme/user/u_9
        subject: String,
        /// What is paid in, such as "5 USD" or 60000; below zero, what is taken back
        #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
        amount: String,
        /// The wallet, by its name in the policy, where the subject has more than one
        #[arg(long, value_name = "NAME")]
        limit: Option<String>,
        #[command(flatten)]
        given: Given,
    },
    /// Put a tenant, or one user or key of it, into a tier
    SetTier {
        /// Such as tenant/acme or tenant/acme/user/u_9
        subject: String,
        /// A tier of the policy
        tier: String,
        #[command(flatten)]
        end: End,
        #[command(flatten)]
        given: Given,
    },
    /// Refuse everything of a subject, until a time or until it is unblocked
    Block {
        /// Such as tenant/acme/key/k_1 or source/203.0.113.7
        subject: String,
        #[command(flatten)]
        end: End,
        #[command(flatten)]
        given: Given,
    },
    /// End a block
    Unblock {
        /// As it was blocked
        subject: String,
        #[command(flatten)]
        given: Given,
    },
    #[command(flatten)]
    Request(request::RequestCommand),
    /// Take back what a raise, top-up, set-tier or block changed
    Undo {
        /// The command's id
        command: String,
        #[command(flatten)]
        given: Given,
    },
    /// List commands, newest first: who ordered what, when and why
    List {
        /// Only those on this subject and all below it
        #[arg(long)]
        subject: Option<String>,
        /// Only those of this kind
        #[arg(long)]
        kind: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        server: Server,
    },
}

/// When it ends by itself.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(super) struct End {
    /// How long, such as 90m, 2h or 7d; without an end it holds until it is undone
    #[arg(long = "for", value_name = "SPAN")]
    span: Option<String>,
    /// Until when, such as 2026-12-24T18:00:00Z
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// What each command is given with.
#[derive(Debug, Args)]
pub(super) struct Given {
    /// Why, in a few words: kept for those who ask later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// An id of your own: sent again with the same id, it is one command
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    server: Server,
}

/// Of a command's JSON; one without a value is left out.
type Fields = Vec<(&'static str, Option<Value>)>;

/// What a subcommand asks of the server.
enum Call {
    /// A command of this kind, with its fields.
    Give(&'static str, Fields, End, Given),
    /// A list to be shown, at most so many of those that fit `query`.
    List {
        path: &'static str,
        limit: usize,
        query: [(&'static str, Option<String>); 2],
        server: Server,
    },
}

impl CommandCommand {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self.call() {
            Call::Give(kind, fields, end, given) => give(kind, fields, end, given).await,
            Call::List {
                path,
                limit,
                query,
                server,
            } => list(&server, (path, limit), query).await,
        }
    }

    fn call(self) -> Call {
        let (kind, fields, end, given) = match self {
            Self::Raise {
                subject,
                limit,
                hard,
                mode,
                end,
                given,
            } => {
                let fields = vec![
                    ("subject", text(subject)),
                    ("limit", text(limit)),
                    ("hard", hard.map(number)),
                    ("mode", mode.map(Value::from)),
                ];
                ("raise", fields, end, given)
            }
            Self::Clear {
                subject,
                limit,
                given,
            } => {
                let fields = vec![("subject", text(subject)), ("limit", text(limit))];
                ("clear", fields, End::default(), given)
            }
            Self::TopUp {
                subject,
                amount,
                limit,
                given,
            } => {
                let fields = vec![
                    ("subject", text(subject)),
                    ("amount", Some(number(amount))),
                    ("limit", limit.map(Value::from)),
                ];
                ("top_up", fields, End::default(), given)
            }
            Self::SetTier {
                subject,
                tier,
                end,
                given,
            } => {
                let fields = vec![("subject", text(subject)), ("tier", text(tier))];
                ("set_tier", fields, end, given)
            }
            Self::Block {
                subject,
                end,
                given,
            } => ("block", only("subject", subject), end, given),
            Self::Unblock { subject, given } => {
                ("unblock", only("subject", subject), End::default(), given)
            }
            Self::Undo { command, given } => {
                ("undo", only("command", command), End::default(), given)
            }
            Self::List {
                subject,
                kind,
                limit,
                server,
            } => return list_of([("subject", subject), ("kind", kind)], limit, server),
            Self::Request(request) => return request.call(),
        };
        Call::Give(kind, fields, end, given)
    }
}

/// The commands that fit.
fn list_of(query: [(&'static str, Option<String>); 2], limit: usize, server: Server) -> Call {
    Call::List {
        path: "/v1/commands",
        limit,
        query,
        server,
    }
}

/// The fields of a kind that has one.
fn only(name: &'static str, value: String) -> Fields {
    vec![(name, text(value))]
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a field that is always there, among those that may be"
)]
fn text(value: String) -> Option<Value> {
    Some(value.into())
}

/// A whole number as one, anything else as the text it is.
fn number(text: String) -> Value {
    match text.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) => text.into(),
    }
}

async fn give(kind: &str, fields: Fields, end: End, given: Given) -> anyhow::Result<()> {
    let rest = [
        ("kind", Some(kind.into())),
        ("for", end.span.map(Value::from)),
        ("until", end.until.map(Value::from)),
        ("reason", Some(given.reason.into())),
        ("id", given.id.map(Value::from)),
    ];
    let fields = fields.into_iter().chain(rest);
    let body: Map<String, Value> = fields
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    let client = given.server.client()?;
    let path = match kind {
        request::ASK => request::PATH,
        _ => "/v1/commands",
    };
    let answer = client.send(path, &Value::Object(body)).await?;
    say(&answer.to_string())
}

/// One command or request a line, as JSON.
async fn list(
    server: &Server,
    (path, limit): (&str, usize),
    rest: [(&str, Option<String>); 2],
) -> anyhow::Result<()> {
    let mut path = format!("{path}?limit={limit}");
    for (name, value) in rest {
        if let Some(value) = value {
            let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
            path.push_str(&format!("&{name}={value}"));
        }
    }
    let commands = server.client()?.get(&path).await?;
    for command in commands.as_array().into_iter().flatten() {
        say(&command.to_string())?;
    }
    Ok(())
}
