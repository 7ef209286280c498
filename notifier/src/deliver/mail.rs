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
mod tests;
