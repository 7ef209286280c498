//! Mail through an SMTP server.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::AsyncSmtpTransportBuilder;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message as Letter, Tokio1Executor};
use schemas::time::Timestamp;

use super::{DeliverError, is_loopback};
use crate::config::{ChannelConfig, ConfigError, Tls};
use crate::message::Message;

const PORT_PLAIN: u16 = 25;
const PORT_STARTTLS: u16 = 587;
const PORT_TLS: u16 = 465;

/// One set of receivers behind one SMTP server.
pub(crate) struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// The sender's domain, for `Message-ID`.
    domain: String,
    timeout: Duration,
}

impl Mail {
    pub(super) fn build(channel: &ChannelConfig, timeout: Duration) -> Result<Self, ConfigError> {
        let wrong = |reason: &dyn std::fmt::Display| ConfigError::channel(&channel.name, reason);
        let mailbox = |text: &str| -> Result<Mailbox, ConfigError> {
            let refuse = |error| wrong(&format_args!("`{text}` is no mail address: {error}"));
            text.parse().map_err(refuse)
        };
        let from = channel.from.as_deref();
        let from = mailbox(from.ok_or_else(|| wrong(&"mail needs `from`"))?)?;
        let to = channel
            .to
            .iter()
            .map(|text| mailbox(text))
            .collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(wrong(&"mail needs `to`"));
        }
        let smtp = channel.smtp.as_deref();
        let server = Server::parse(
            smtp.ok_or_else(|| wrong(&"mail needs `smtp`"))?,
            channel.tls,
        );
        let server = server.ok_or_else(|| wrong(&"`smtp` is `host` or `host:port`"))?;
        let mut builder = server.builder().map_err(|error| wrong(&error))?;
        if let (Some(user), Some(password)) = (&channel.user, &channel.password) {
            let password = password.expose().to_owned();
            builder = builder.credentials(Credentials::new(user.clone(), password));
        } else if channel.user.is_some() || channel.password.is_some() {
            return Err(wrong(&"mail needs both `user` and `password`, or neither"));
        }
        Ok(Self {
            transport: builder.timeout(Some(timeout)).build(),
            domain: from.email.domain().to_owned(),
            from,
            to,
            timeout,
        })
    }

    pub(super) async fn deliver(
        &self,
        message: &Message,
        now: Timestamp,
    ) -> Result<(), DeliverError> {
        let letter = self.write(message, now);
        let letter = letter.map_err(|error| DeliverError::Unwritable(error.to_string()))?;
        // The transport's own timeout bounds each step of the dialogue, this one all of them.
        let sent = tokio::time::timeout(self.timeout, self.transport.send(letter)).await;
        match sent {
            Err(_) => Err(DeliverError::TimedOut(self.timeout)),
            Ok(Err(error)) if refuses_message(&error) => {
                Err(DeliverError::Refused(explain(&error)))
            }
            Ok(Err(error)) => Err(DeliverError::Unreached(explain(&error))),
            Ok(Ok(_)) => Ok(()),
        }
    }

    fn write(
        &self,
        message: &Message,
        now: Timestamp,
    ) -> Result<Letter, Box<dyn std::error::Error + Send + Sync>> {
        let mut builder = Letter::builder()
            .from(self.from.clone())
            .subject(message.title.as_str())
            .message_id(Some(format!("<{}@{}>", message.id, self.domain)))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        if let Some(at) = now.to_utc() {
            builder = builder.date(at.into());
        }
        let mut letter = builder.body(message.text.clone())?;
        // RFC 3834: no answering machine is to answer this.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        let value = HeaderValue::new(name, "auto-generated".to_owned());
        letter.headers_mut().insert_raw(value);
        Ok(letter)
    }
}

/// Where the SMTP server is and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    tls: Tls,
}

impl Server {
    /// `None` when `text` is neither `host` nor `host:port`.
    fn parse(text: &str, tls: Option<Tls>) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().ok()?)),
            None => (text, None),
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() || bare.contains(['/', '@', ' ']) {
            return None;
        }
        let usual = match port {
            Some(PORT_TLS) => Tls::Tls,
            _ if is_loopback(bare) => Tls::None,
            _ => Tls::Starttls,
        };
        let tls = tls.unwrap_or(usual);
        let port = port.unwrap_or(match tls {
            Tls::None => PORT_PLAIN,
            Tls::Starttls => PORT_STARTTLS,
            Tls::Tls => PORT_TLS,
        });
        Some(Self {
            host: bare.to_owned(),
            port,
            tls,
        })
    }

    fn builder(&self) -> Result<AsyncSmtpTransportBuilder, lettre::transport::smtp::Error> {
        type Transport = AsyncSmtpTransport<Tokio1Executor>;
        let builder = match self.tls {
            Tls::None => Transport::builder_dangerous(&self.host),
            Tls::Starttls => Transport::starttls_relay(&self.host)?,
            Tls::Tls => Transport::relay(&self.host)?,
        };
        Ok(builder.port(self.port))
    }
}

/// Whether the server said that this message will never be taken. Its complaints about who we are (53x) are the
/// operator's to mend, so those are tried again.
fn refuses_message(error: &lettre::transport::smtp::Error) -> bool {
    let about_login = error
        .status()
        .is_some_and(|code| (530..540).contains(&u16::from(code)));
    error.is_permanent() && !about_login
}

fn explain(error: &lettre::transport::smtp::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing;
    use crate::config::ChannelKind;

    #[track_caller]
    fn check_server(text: &str, tls: Option<Tls>, expected: Option<(&str, u16, Tls)>) {
        let expected = expected.map(|(host, port, tls)| Server {
            host: host.to_owned(),
            port,
            tls,
        });
        assert_eq!(Server::parse(text, tls), expected, "{text}");
    }

    #[test]
    fn protects_what_leaves_this_machine() {
        check_server("localhost:1025", None, Some(("localhost", 1025, Tls::None)));
        check_server("127.0.0.1", None, Some(("127.0.0.1", 25, Tls::None)));
        check_server("[::1]:25", None, Some(("::1", 25, Tls::None)));
        check_server(
            "mail.example.com",
            None,
            Some(("mail.example.com", 587, Tls::Starttls)),
        );
        check_server(
            "mail.example.com:25",
            None,
            Some(("mail.example.com", 25, Tls::Starttls)),
        );
        check_server(
            "mail.example.com:465",
            None,
            Some(("mail.example.com", 465, Tls::Tls)),
        );
        check_server("a.b", Some(Tls::Tls), Some(("a.b", 465, Tls::Tls)));
        check_server("a.b:25", Some(Tls::None), Some(("a.b", 25, Tls::None)));
        check_server("smtp://a.b", None, None);
        check_server("a.b:port", None, None);
        check_server("", None, None);
        check_server(":25", None, None);
    }

    fn channel() -> ChannelConfig {
        ChannelConfig {
            name: "mail".to_owned(),
            kind: ChannelKind::Mail,
            smtp: Some("localhost:1025".to_owned()),
            from: Some("Weir <weir@example.com>".to_owned()),
            to: vec![
                "ops@example.com".to_owned(),
                "Ann <ann@example.com>".to_owned(),
            ],
            ..ChannelConfig::default()
        }
    }

    #[track_caller]
    fn check_build(channel: &ChannelConfig, expected: Result<(), &str>) {
        let built = Mail::build(channel, Duration::from_secs(1));
        let found = built.map(|_| ()).map_err(|error| error.to_string());
        let expected = expected.map_err(|reason| format!("notifier.channel `mail`: {reason}"));
        assert_eq!(found, expected);
    }

    #[tokio::test]
    async fn names_what_is_missing() {
        check_build(&channel(), Ok(()));
        let no_from = ChannelConfig {
            from: None,
            ..channel()
        };
        check_build(&no_from, Err("mail needs `from`"));
        let no_to = ChannelConfig {
            to: vec![],
            ..channel()
        };
        check_build(&no_to, Err("mail needs `to`"));
        let no_smtp = ChannelConfig {
            smtp: None,
            ..channel()
        };
        check_build(&no_smtp, Err("mail needs `smtp`"));
        let half = ChannelConfig {
            user: Some("u".to_owned()),
            ..channel()
        };
        check_build(
            &half,
            Err("mail needs both `user` and `password`, or neither"),
        );
    }

    #[tokio::test]
    async fn a_letter_says_that_a_machine_wrote_it() {
        let mail = Mail::build(&channel(), Duration::from_secs(1)).unwrap();
        let mut alert = testing::alert("a1", Timestamp::from_seconds(1_700_000_000));
        alert.title = "acme: 80 % used\r\nBcc: evil@example.com".to_owned();
        let message = Message::of_alert(&alert, "mail");
        let now = Timestamp::from_seconds(1_700_000_001);
        let letter = String::from_utf8(mail.write(&message, now).unwrap().formatted()).unwrap();
        for line in [
            "From: Weir <weir@example.com>",
            "Subject: acme: 80 % used Bcc: evil@example.com",
            "Auto-Submitted: auto-generated",
            "Date: Tue, 14 Nov 2023 22:13:21 +0000",
            "Content-Type: text/plain; charset=utf-8",
            &format!("Message-ID: <{}@example.com>", message.id),
            "decision: d-1",
        ] {
            assert!(letter.lines().any(|l| l == line), "no `{line}` in {letter}");
        }
        assert!(!letter.contains("\nBcc:"));
    }
}
