//! A client of both HTTP planes, as an app, a proxy and an operator would be.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::eventually;
use crate::metrics::Metrics;

const TIMEOUT: Duration = Duration::from_secs(30);
const RESERVATION_PATIENCE: Duration = Duration::from_secs(60);
/// Page size of lists: as much as the plane gives at once.
const PAGE: &str = "1000";

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Its body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in the answer {text}"))
    }

    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The id of what was made.
    ///
    /// # Panics
    /// When nothing was.
    #[must_use]
    #[track_caller]
    pub fn created(&self) -> String {
        assert_eq!(self.status, 201, "{}", self.text());
        self.json()["id"].as_str().expect("an id").to_owned()
    }

    /// A header's value, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// How to reach one `weir`.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    data: String,
    management: String,
    ingest_key: String,
    operator_token: String,
}

impl Client {
    /// # Panics
    /// When the HTTP client cannot be made.
    #[must_use]
    pub fn new(data: &str, management: &str, ingest_key: &str, operator_token: &str) -> Self {
        // Only the first one in a process can set it; it is the same for all.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build();
        Self {
            http: http.expect("an HTTP client"),
            data: format!("http://{data}"),
            management: format!("http://{management}"),
            ingest_key: ingest_key.to_owned(),
            operator_token: operator_token.to_owned(),
        }
    }

    #[must_use]
    pub fn ingest_key(&self) -> &str {
        &self.ingest_key
    }

    #[must_use]
    pub fn operator_token(&self) -> &str {
        &self.operator_token
    }

    /// Host and port of the data plane.
    ///
    /// # Panics
    /// Never: it is reached over plain HTTP.
    #[must_use]
    pub fn data_address(&self) -> &str {
        self.data.strip_prefix("http://").expect("plain HTTP")
    }

    /// The same places with another key and token.
    #[must_use]
    pub fn with_secret(&self, secret: &str) -> Self {
        Self {
            ingest_key: secret.to_owned(),
            operator_token: secret.to_owned(),
            ..self.clone()
        }
    }

    /// A request to the data plane, with the ingest key.
    pub fn data(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.data))
            .bearer_auth(&self.ingest_key)
    }

    /// A request to the management plane, with the operator's token.
    pub fn management(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.management);
        self.http
            .request(method, url)
            .bearer_auth(&self.operator_token)
    }

    /// Posts events, one a line; the answer, or why there was none.
    pub async fn try_post(&self, lines: String) -> Result<Answer, String> {
        let request = self.data(Method::POST, "/v1/events");
        send(
            request
                .header("content-type", "application/x-ndjson")
                .body(lines),
        )
        .await
    }

    /// Posts events, one a line.
    ///
    /// # Panics
    /// When they are not all taken.
    pub async fn post(&self, lines: &[String]) {
        let answer = self.try_post(lines.join("\n")).await.expect("an answer");
        assert_eq!(
            answer.status,
            StatusCode::ACCEPTED.as_u16(),
            "{}",
            answer.text()
        );
        assert_eq!(answer.json()["accepted"], lines.len());
    }

    /// What the management plane says at `path` with these query parameters.
    ///
    /// # Panics
    /// When it does not answer 200 and JSON.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let answer = self.answer(path, query).await;
        assert_eq!(answer.status, 200, "{path} {query:?}: {}", answer.text());
        answer.json()
    }

    /// A list of the management plane, all pages of it.
    ///
    /// # Panics
    /// As [`Client::get`].
    pub async fn list(&self, path: &str, query: &[(&str, &str)]) -> Vec<Value> {
        let size = if path == "/v1/signals" {
            "page_size"
        } else {
            "limit"
        };
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            query.push((size, PAGE));
            if let Some(cursor) = &after {
                query.push(("after", cursor));
            }
            let answer = self.answer(path, &query).await;
            assert_eq!(answer.status, 200, "{path} {query:?}: {}", answer.text());
            all.extend(answer.json().as_array().expect("a list").iter().cloned());
            after = answer.header("link").and_then(next_cursor);
            if after.is_none() {
                return all;
            }
        }
    }

    async fn answer(&self, path: &str, query: &[(&str, &str)]) -> Answer {
        send(self.management(Method::GET, path).query(query))
            .await
            .expect("an answer")
    }

    /// Posts JSON to the management plane.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn submit(&self, path: &str, body: &Value) -> Answer {
        let request = self.management(Method::POST, path).json(body);
        send(request).await.expect("an answer")
    }

    /// Gives a command.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn order(&self, command: &Value) -> Answer {
        self.submit("/v1/commands", command).await
    }

    /// Gives a command that is taken, and says its id.
    ///
    /// # Panics
    /// When it is refused, or there is no answer.
    pub async fn ordered(&self, command: &Value) -> String {
        self.order(command).await.created()
    }

    /// Calls `/v1/reservations` as an honest client does: again and again, while the ledger or the log does not answer.
    ///
    /// # Panics
    /// When there is no answer for a minute.
    pub async fn reservations(&self, method: Method, path: &str, body: &Value) -> Answer {
        let path = format!("/v1/reservations{path}");
        eventually("an answer", RESERVATION_PATIENCE, async || {
            let request = self.data(method.clone(), &path).json(body);
            match send(request).await? {
                answer if answer.status < 500 => Ok(answer),
                answer => Err(answer.text()),
            }
        })
        .await
    }

    /// Makes `policy` the next version of the policy, and says which number that is.
    ///
    /// # Panics
    /// When it is refused, or there is no answer.
    pub async fn apply(&self, policy: &str) -> i64 {
        let request = self.management(Method::PUT, "/v1/policy");
        let request = request.query(&[("reason", "test")]);
        let request = request.header("content-type", "application/toml");
        let answer = send(request.body(policy.to_owned())).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["version"].as_i64().expect("a number")
    }

    /// Asks `/v1/check`.
    ///
    /// # Panics
    /// When the answer is not 200 and JSON.
    pub async fn check(&self, identity: &Value) -> Value {
        let request = self.data(Method::POST, "/v1/check").json(identity);
        let answer = send(request).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// Asks `/v1/forward-auth` about `tenant`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn forward_auth(&self, tenant: &str) -> Answer {
        let request = self
            .data(Method::GET, "/v1/forward-auth")
            .header("x-weir-tenant", tenant);
        send(request).await.expect("an answer")
    }

    /// Scrapes `/metrics`.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn metrics(&self) -> Metrics {
        let answer = self.answer("/metrics", &[]).await;
        Metrics::parse(&answer.text())
    }
}

/// Sends `request` and reads the answer whole.
///
/// # Errors
/// Why there is no answer: refused, reset, too late.
pub async fn send(request: RequestBuilder) -> Result<Answer, String> {
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let body = response
        .bytes()
        .await
        .map_err(|error| format!("{error:?}"))?;
    Ok(Answer {
        status,
        headers,
        body,
    })
}

/// The cursor in `<…?after=CURSOR&…>; rel="next"`.
fn next_cursor(link: &str) -> Option<String> {
    let url = link.strip_prefix('<')?.split_once('>')?.0;
    let (_, query) = url.split_once('?')?;
    let pair = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("after="));
    pair.map(str::to_owned)
}
