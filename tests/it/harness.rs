//! The harness itself: the servers that it starts are real and answer.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sqlx::{AnyConnection, Connection, Row};
use tests::eventually;
use tests::postgres::Postgres;
use tests::redis::Redis;
use tests::smtp::Smtp;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn postgres_gives_databases_apart() {
    sqlx::any::install_default_drivers();
    let server = Postgres::start().await;
    for _ in 0..2 {
        let url = server.fresh_database().await;
        let mut connection = AnyConnection::connect(&url).await.unwrap();
        sqlx::query("CREATE TABLE only_here (n BIGINT)")
            .execute(&mut connection)
            .await
            .unwrap();
        let count = sqlx::query("SELECT COUNT(*) FROM only_here");
        let row = count.fetch_one(&mut connection).await.unwrap();
        assert_eq!(row.get::<i64, _>(0), 0);
    }
}

#[tokio::test]
async fn redis_answers() {
    let server = Redis::start().await;
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let pong: String = redis::cmd("PING")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(pong, "PONG");
}

#[tokio::test]
async fn smtp_keeps_mail() {
    let mut server = Smtp::down();
    assert!(TcpStream::connect(("127.0.0.1", server.port())).is_err());
    server.start().await;
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let talk = "EHLO here\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n\
                Subject: hello\r\n\r\nthere\r\n.\r\nQUIT\r\n";
    for line in talk.split_inclusive("\r\n") {
        stream.write_all(line.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    stream.read_to_string(&mut String::new()).unwrap();
    let mails = eventually("the mail", SOON, async || match server.mails() {
        none if none.is_empty() => Err("none".to_owned()),
        mails => Ok(mails),
    })
    .await;
    assert_eq!(mails.len(), 1);
    assert!(
        mails[0].contains("Subject: hello") && mails[0].contains("there"),
        "{}",
        mails[0]
    );
}
