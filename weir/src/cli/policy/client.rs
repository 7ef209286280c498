//! The management plane, as a command uses it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::credentials::Credentials;
use crate::process::Listening;

const TOML: &str = "application/toml";

/// Longer than the management plane waits for the log.
const WITHIN: Duration = Duration::from_secs(30);

/// Which running Weir, and as whom.
#[derive(Debug, Args)]
pub(in crate::cli) struct Server {
    /// Management plane of a running Weir; without it, that of the one that holds --data
    #[arg(long, value_name = "URL", env = "WEIR_MANAGEMENT")]
    management: Option<String>,
    /// A token of the whole platform; without it, the operator's in --data
    #[arg(long, value_name = "TOKEN", env = "WEIR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Data folder of a running Weir on this machine
    #[arg(
        long,
        value_name = "DIR",
        env = "WEIR_DATA",
        default_value = "weir-data"
    )]
    data: PathBuf,
}

impl Server {
    pub(in crate::cli) fn client(&self) -> anyhow::Result<Client> {
        // Another provider may be the process's default already; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = match &self.management {
            Some(url) if url.contains("://") => url.trim_end_matches('/').to_owned(),
            Some(address) => format!("http://{address}"),
            None => format!("http://{}", management_of(&self.data)?),
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => token_of(&self.data)?,
        };
        let http = reqwest::Client::builder().timeout(WITHIN).build()?;
        Ok(Client { http, base, token })
    }
}

fn management_of(data: &Path) -> anyhow::Result<String> {
    let listening = Listening::read(data).with_context(|| {
        let data = data.display();
        format!("no Weir runs on {data}: name its management plane with --management, or its data folder with --data")
    })?;
    Ok(listening.management)
}

fn token_of(data: &Path) -> anyhow::Result<String> {
    let credentials = Credentials::load(data).with_context(|| {
        let data = data.display();
        format!("no token in {data}: give one with --token, or in WEIR_TOKEN")
    })?;
    Ok(credentials.operator_token)
}

pub(in crate::cli) struct Client {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// A version's number and text.
pub(super) struct Stored {
    pub(super) version: u64,
    pub(super) source: String,
}

/// A version's number and text, as an answer has them.
#[derive(Deserialize)]
struct Applied {
    version: u64,
}

impl Client {
    /// The version in force, or the one of a number.
    pub(super) async fn stored(&self, version: Option<u64>) -> anyhow::Result<Stored> {
        let request = self.request(Method::GET, &path_of(version));
        let answer = self.answer(request.header(ACCEPT, TOML)).await?;
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
        let number = tag.and_then(|tag| tag.trim_matches('"').parse().ok());
        let version = number.with_context(|| {
            let base = &self.base;
            format!("{base} does not say which version of the policy it shows; is it Weir's management plane?")
        })?;
        let source = answer.text().await?;
        Ok(Stored { version, source })
    }

    /// As [`Client::stored`], with everything that is known of it.
    pub(super) async fn described(&self, version: Option<u64>) -> anyhow::Result<Value> {
        self.get(&path_of(version)).await
    }

    pub(in crate::cli) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let answer = self.answer(self.request(Method::GET, path)).await?;
        Ok(answer.json().await?)
    }

    /// Sends `body`, and gives what is answered.
    pub(in crate::cli) async fn send(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self
            .answer(self.request(Method::POST, path).json(body))
            .await?;
        Ok(answer.json().await?)
    }

    /// Makes `source` the next version, if `of` still holds; gives the number that holds then.
    pub(super) async fn apply(&self, source: &str, of: u64, reason: &str) -> anyhow::Result<u64> {
        let reason = utf8_percent_encode(reason, NON_ALPHANUMERIC);
        let request = self.request(Method::PUT, &format!("/v1/policy?reason={reason}"));
        let request = request.header(CONTENT_TYPE, TOML).body(source.to_owned());
        self.change(request, of).await
    }

    /// Makes an older version the next one, if `of` still holds; gives the number that holds then.
    pub(super) async fn roll_back(&self, to: u64, of: u64, reason: &str) -> anyhow::Result<u64> {
        let request = self.request(Method::POST, "/v1/policy/rollback");
        let request = request.json(&json!({ "version": to, "reason": reason }));
        self.change(request, of).await
    }

    async fn change(&self, request: RequestBuilder, of: u64) -> anyhow::Result<u64> {
        let request = request.header(IF_MATCH, format!("\"{of}\""));
        let applied: Applied = self.answer(request).await?.json().await?;
        Ok(applied.version)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// A good answer.
    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let sent = request.send().await;
        let answer = sent.with_context(|| {
            format!("no answer from {}: does Weir run there? name its management plane with --management", self.base)
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        bail!("{}", refusal(answer.status(), &answer.text().await?))
    }
}

fn path_of(version: Option<u64>) -> String {
    match version {
        Some(version) => format!("/v1/policy/versions/{version}"),
        None => "/v1/policy".to_owned(),
    }
}

/// What a problem's details say, with a line for each error.
fn refusal(status: StatusCode, body: &str) -> String {
    #[derive(Deserialize)]
    struct Details {
        detail: String,
        #[serde(default)]
        errors: Vec<FieldDetail>,
    }
    #[derive(Deserialize)]
    struct FieldDetail {
        detail: String,
    }
    let Ok(details) = serde_json::from_str::<Details>(body) else {
        return format!("refused: {status} {body}");
    };
    let mut lines = vec![format!(
        "refused with {}: {}",
        status.as_u16(),
        details.detail
    )];
    if 1 < details.errors.len() {
        lines.extend(details.errors.into_iter().map(|error| error.detail));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_tells_every_reason() {
        let body = r#"{"detail": "for 2 reasons", "errors": [{"detail": "1:2: a"}, {"detail": "3:4: b"}]}"#;
        assert_eq!(
            refusal(StatusCode::UNPROCESSABLE_ENTITY, body),
            "refused with 422: for 2 reasons\n1:2: a\n3:4: b"
        );
        assert_eq!(
            refusal(StatusCode::BAD_GATEWAY, "<html>"),
            "refused: 502 Bad Gateway <html>"
        );
    }
}
