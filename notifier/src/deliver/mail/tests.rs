use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

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

/// Speaks SMTP with one client as a server does, and answers the end of the letter with `verdict`. Returns what the
/// client said.
async fn serve(listener: TcpListener, verdict: &str) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let mut said = Vec::new();
    let mut in_letter = false;
    writer.write_all(b"220 ready\r\n").await.unwrap();
    while let Ok(Some(line)) = lines.next_line().await {
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        let answer = match verb {
            "." => verdict,
            _ if in_letter => "",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 fine",
        };
        in_letter = (in_letter || verb == "DATA") && verb != ".";
        said.push(line);
        if !answer.is_empty() {
            writer
                .write_all(format!("{answer}\r\n").as_bytes())
                .await
                .unwrap();
        }
    }
    said
}

/// `final_error`: `None` when the letter is taken, else whether the message has failed for good.
async fn check_delivery(verdict: &str, final_error: Option<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = ChannelConfig {
        smtp: Some(listener.local_addr().unwrap().to_string()),
        ..channel()
    };
    let mail = Mail::build(&channel, Duration::from_secs(10)).unwrap();
    let alert = testing::alert("a1", Timestamp::from_seconds(1_700_000_000));
    let message = Message::of_alert(&alert, "mail");
    let deliver = async {
        let sent = mail.deliver(&message, alert.at).await;
        drop(mail);
        sent
    };
    let (sent, said) = tokio::join!(deliver, serve(listener, verdict));
    assert_eq!(
        sent.err().map(|error| error.is_final()),
        final_error,
        "{verdict}"
    );
    for line in [
        "MAIL FROM:<weir@example.com>",
        "RCPT TO:<ops@example.com>",
        "RCPT TO:<ann@example.com>",
        "Subject: acme is refused (a1)",
    ] {
        assert!(
            said.iter().any(|l| l.starts_with(line)),
            "no `{line}` in {said:?}"
        );
    }
}

#[tokio::test]
async fn does_as_the_server_says() {
    check_delivery("250 taken", None).await;
    check_delivery("451 later", Some(false)).await;
    check_delivery("550 never", Some(true)).await;
    check_delivery("530 log in first", Some(false)).await;
}

#[tokio::test]
async fn a_server_that_is_down_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = ChannelConfig {
        smtp: Some(listener.local_addr().unwrap().to_string()),
        ..channel()
    };
    drop(listener);
    let mail = Mail::build(&channel, Duration::from_secs(10)).unwrap();
    let alert = testing::alert("a1", Timestamp::from_seconds(0));
    let sent = mail
        .deliver(&Message::of_alert(&alert, "mail"), alert.at)
        .await;
    assert!(!sent.unwrap_err().is_final());
}
