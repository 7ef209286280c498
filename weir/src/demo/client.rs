//! Weir's HTTP surface as an app, a gateway and an operator use it.

use anyhow::{Context, ensure};
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use crate::process::Running;

#[derive(Clone, Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    data: String,
    management: String,
    ingest_key: String,
    operator_token: String,
}

impl Client {
    pub(super) fn new(running: &Running) -> anyhow::Result<Self> {
        // Another provider may be the process's default already; either serves.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let credentials = running
            .credentials
            .as_ref()
            .context("a process without credentials")?;
        let data = running
            .listening
            .data
            .as_ref()
            .context("a process without a data plane")?;
        Ok(Self {
            http: reqwest::Client::new(),
            data: format!("http://{data}"),
            management: format!("http://{}", running.listening.management),
            ingest_key: credentials.ingest_key.clone(),
            operator_token: credentials.operator_token.clone(),
        })
    }

    /// Asks whether a call may be made.
    pub(super) async fn check(&self, request: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/v1/check", self.data);
        let call = self
            .http
            .post(url)
            .bearer_auth(&self.ingest_key)
            .json(request);
        let answer = call.send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// Reports a batch of CloudEvents.
    pub(super) async fn report(&self, events: &[Value]) -> anyhow::Result<()> {
        let call = self
            .http
            .post(format!("{}/v1/events", self.data))
            .bearer_auth(&self.ingest_key);
        let call = call.header(CONTENT_TYPE, "application/cloudevents-batch+json");
        let answer = call.body(serde_json::to_vec(events)?).send().await?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "events refused: {status} {}",
            answer.text().await?
        );
        Ok(())
    }

    /// Sends what a browser sends when a content security policy is violated.
    pub(super) async fn violation(&self, tenant: &str, report: &Value) -> anyhow::Result<()> {
        let call = self.http.post(format!("{}/v1/csp/{tenant}", self.data));
        let call = call.header(CONTENT_TYPE, "application/csp-report");
        call.body(serde_json::to_vec(report)?)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// A query on the management plane.
    pub(super) async fn ask(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.management);
        let call = self.http.get(url).bearer_auth(&self.operator_token);
        let answer = call.send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    /// The sum of a metric over all its labels; zero when there is none.
    pub(super) async fn metrics(&self) -> anyhow::Result<String> {
        let answer = self
            .http
            .get(format!("{}/metrics", self.management))
            .send()
            .await?;
        Ok(answer.error_for_status()?.text().await?)
    }
}
