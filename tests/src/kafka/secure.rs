//! A Kafka that lets in whom it knows and allows what was granted, as clusters in earnest do: TLS with certificates of
//! clients, SASL over TLS, and ACLs. Always from the jars.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{
    CreateAclsRequest, DeleteAclsRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tempfile::TempDir;

use super::{Jars, QUICK, Tuning, lines, wait_until_it_answers};
use crate::certificates::{Identity, Valid};
use crate::process::{Process, free_port};

/// Users that sign in by password. Those of [`SCRAM_USERS`] can do so without saying it.
const USERS: [&str; 11] = [
    "weir",
    "enforcer",
    "aggregator",
    "notifier",
    "ingest",
    "gateway",
    "nobody",
    "blind",
    "deaf",
    "mute",
    "alone",
];
const SCRAM_USERS: [&str; 1] = ["weir"];
/// The password of all of them. Nothing that is under test may ever show it.
pub const PASSWORD: &str = "unutterable-9f31";

const ACLS_VERSION: i16 = 3;
const ALLOW: i8 = 3;

/// A broker that is its own controller. The listener without security is for its administrator.
pub struct Secure {
    jars: Jars,
    admin: u16,
    tls: u16,
    sasl: u16,
    sasl_plain: u16,
    /// Certificates and keys as files.
    folder: TempDir,
    pub authority: Identity,
}

/// What a grant is about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    Topic(&'a str),
    /// All topics whose names begin so.
    Topics(&'a str),
    Group(&'a str),
    Cluster,
}

/// What is granted.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    Read = 3,
    Write = 4,
    Create = 5,
    Describe = 8,
    DescribeConfigs = 10,
    IdempotentWrite = 12,
}

impl Secure {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When it does not, or when Java or Kafka's jars are not there.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Identity::authority("weir-test-authority");
        let server = authority.sign("kafka", Valid::Now);
        std::fs::write(folder.path().join("server.pem"), server.store()).expect("a key store");
        std::fs::write(folder.path().join("ca.pem"), authority.public()).expect("a trust store");
        let [admin, tls, sasl, sasl_plain, controller] = std::array::from_fn(|_| free_port());
        let passwords = USERS.map(|user| format!(" user_{user}=\"{PASSWORD}\""));
        let plain = format!("{PLAIN} required{};", passwords.concat());
        let properties = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=ADMIN\n\
             listeners=ADMIN://127.0.0.1:{admin},TLS://127.0.0.1:{tls},SASL://127.0.0.1:{sasl},\
             SASLPLAIN://127.0.0.1:{sasl_plain},CONTROLLER://127.0.0.1:{controller}\n\
             ssl.keystore.location={folder}/server.pem\n\
             ssl.truststore.location={folder}/ca.pem\n\
             listener.name.sasl.plain.sasl.jaas.config={plain}\n\
             listener.name.saslplain.plain.sasl.jaas.config={plain}\n{}{}",
            lines(SECURED.into_iter()),
            lines(QUICK.into_iter()),
            folder = folder.path().display(),
        );
        let scram: Vec<String> = SCRAM_USERS
            .into_iter()
            .flat_map(|user| ["256", "512"].map(|bits| (user, bits)))
            .map(|(user, bits)| format!("SCRAM-SHA-{bits}=[name={user},password={PASSWORD}]"))
            .collect();
        let users = scram.iter().flat_map(|user| ["--add-scram", user.as_str()]);
        let mut jars = Jars::with_arguments(&properties, Tuning::Tests, users);
        jars.run();
        let mut secure = Self {
            jars,
            admin,
            tls,
            sasl,
            sasl_plain,
            folder,
            authority,
        };
        wait_until_it_answers(&secure.admin(), || secure.jars.check()).await;
        secure
    }

    /// Where its administrator may do everything, unknown and unencrypted.
    #[must_use]
    pub fn admin(&self) -> String {
        format!("127.0.0.1:{}", self.admin)
    }

    /// Where clients show a certificate.
    #[must_use]
    pub fn tls(&self) -> String {
        format!("127.0.0.1:{}", self.tls)
    }

    /// Where clients sign in, encrypted.
    #[must_use]
    pub fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.sasl)
    }

    /// Where clients sign in, unencrypted.
    #[must_use]
    pub fn sasl_plain(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_plain)
    }

    /// The file of the certificate that signed the broker's.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Where a test may put certificates and keys of its own.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Allows `principal` to do that; returns when it is so.
    ///
    /// # Panics
    /// When the broker does not take it.
    pub fn grant(&self, principal: &str, operation: Operation, resource: Resource<'_>) {
        let (kind, name, pattern) = resource.parts();
        let acl = AclCreation::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_resource_pattern_type(pattern)
            .with_principal(text(principal))
            .with_host(text("*"))
            .with_operation(operation as i8)
            .with_permission_type(ALLOW);
        let request = CreateAclsRequest::default().with_creations(vec![acl]);
        for result in self.ask(&request).results {
            assert_eq!(result.error_code, 0, "{:?}", result.error_message);
        }
    }

    /// Takes back what was granted by the same words.
    ///
    /// # Panics
    /// When the broker does not take it, or nothing of the kind was granted.
    pub fn revoke(&self, principal: &str, operation: Operation, resource: Resource<'_>) {
        let (kind, name, pattern) = resource.parts();
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(kind)
            .with_resource_name_filter(Some(text(name)))
            .with_pattern_type_filter(pattern)
            .with_principal_filter(Some(text(principal)))
            .with_host_filter(None)
            .with_operation(operation as i8)
            .with_permission_type(ALLOW);
        let request = DeleteAclsRequest::default().with_filters(vec![filter]);
        for result in self.ask(&request).filter_results {
            assert_eq!(result.error_code, 0, "{:?}", result.error_message);
            assert!(!result.matching_acls.is_empty(), "nothing to take back");
        }
    }

    /// Runs one of Kafka's own command line tools, named as its script is, as the broker's administrator.
    ///
    /// # Panics
    /// When it is none of those known here, or fails.
    pub fn tool(&self, script: &str, arguments: &[&str]) {
        let class = match script {
            "kafka-acls.sh" => "org.apache.kafka.tools.AclCommand",
            "kafka-topics.sh" => "org.apache.kafka.tools.TopicCommand",
            "kafka-configs.sh" => "kafka.admin.ConfigCommand",
            other => panic!("what is {other}?"),
        };
        let mut java = self.jars.java(&[class]);
        let output = java.args(arguments).output().expect("java runs");
        let (out, errors) = (output.stdout, output.stderr);
        assert!(
            output.status.success(),
            "{script} {arguments:?}: {}{}",
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&errors)
        );
    }

    /// All that the broker has logged.
    #[must_use]
    pub fn output(&self) -> String {
        let process = self.jars.process.as_ref();
        process.map(Process::output).unwrap_or_default()
    }

    fn ask<R: Request>(&self, request: &R) -> R::Response {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(ACLS_VERSION);
        let mut frame = BytesMut::zeroed(4);
        let header_version = R::header_version(ACLS_VERSION);
        header.encode(&mut frame, header_version).expect("a header");
        request.encode(&mut frame, ACLS_VERSION).expect("a request");
        let length = u32::try_from(frame.len() - 4).expect("a short request");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        let mut stream = TcpStream::connect(self.admin()).expect("the broker listens");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a time limit");
        stream.write_all(&frame).expect("it reads");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("it answers");
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut body).expect("all of the answer");
        let mut body = Bytes::from(body);
        let header_version =
            <R::Response as kafka_protocol::protocol::HeaderVersion>::header_version(ACLS_VERSION);
        ResponseHeader::decode(&mut body, header_version).expect("a header");
        R::Response::decode(&mut body, ACLS_VERSION).expect("an answer")
    }
}

impl<'a> Resource<'a> {
    /// Its kind, its name, and whether the name is whole or a beginning, in the protocol's numbers.
    const fn parts(self) -> (i8, &'a str, i8) {
        match self {
            Self::Topic(name) => (2, name, 3),
            Self::Topics(prefix) => (2, prefix, 4),
            Self::Group(name) => (3, name, 3),
            Self::Cluster => (4, "kafka-cluster", 3),
        }
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The administrator is whoever comes without a name, which only its own listener allows.
const SECURED: [(&str, &str); 12] = [
    (
        "listener.security.protocol.map",
        "CONTROLLER:PLAINTEXT,ADMIN:PLAINTEXT,TLS:SSL,SASL:SASL_SSL,SASLPLAIN:SASL_PLAINTEXT",
    ),
    (
        "authorizer.class.name",
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    ),
    ("super.users", "User:ANONYMOUS"),
    ("ssl.keystore.type", "PEM"),
    ("ssl.truststore.type", "PEM"),
    ("listener.name.tls.ssl.client.auth", "required"),
    (
        "sasl.enabled.mechanisms",
        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    ),
    ("listener.name.sasl.scram-sha-256.sasl.jaas.config", SCRAM),
    ("listener.name.sasl.scram-sha-512.sasl.jaas.config", SCRAM),
    (
        "listener.name.saslplain.scram-sha-256.sasl.jaas.config",
        SCRAM,
    ),
    (
        "listener.name.saslplain.scram-sha-512.sasl.jaas.config",
        SCRAM,
    ),
    ("offsets.topic.replication.factor", "1"),
];

const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
