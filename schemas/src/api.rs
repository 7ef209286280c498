//! What Weir offers over HTTP, as data: one [`Operation`] for each call.
//!
//! The services declare theirs beside the handlers. The management plane asks for a token by this table and by nothing
//! else, so a route that nobody declared answers nobody; and `/openapi.json` ([`openapi::describe`]) is this table in
//! other words, so what is described is what is enforced.

pub mod openapi;

use crate::record::Role;

/// Whose token may read what concerns a tenant: a tenant's own token sees its own only.
pub const READERS: &[Role] = &[Role::Operator, Role::Auditor, Role::Tenant];
/// Who may read what concerns the whole platform.
pub const OVERSEERS: &[Role] = &[Role::Operator, Role::Auditor];
/// Who may change things.
pub const OPERATORS: &[Role] = &[Role::Operator];

/// Which listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    Data,
    Management,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub plane: Plane,
    /// In capitals.
    pub method: &'static str,
    /// With `{name}` for what stands in it.
    pub path: &'static str,
    /// A line that says what it does.
    pub summary: &'static str,
    /// Whose keys may call it; none: it takes no key.
    pub roles: &'static [Role],
    pub parameters: &'static [Parameter],
    pub body: Option<Body>,
    /// What it answers when nothing is wrong.
    pub answers: &'static [Answer],
    /// What it answers when something is, besides what its key and its parameters can be refused for.
    pub problems: &'static [Answer],
}

/// A parameter of a call.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub required: bool,
    pub kind: Kind,
    pub what: &'static str,
    /// A value that the call takes.
    pub example: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Path,
    Query,
    Header,
}

/// What a parameter's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Whole,
    Flag,
    /// RFC 3339.
    Time,
    OneOf(&'static [&'static str]),
}

/// What a call takes.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    pub media_types: &'static [&'static str],
    pub what: &'static str,
}

/// What a call answers.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    /// None: no body.
    pub media_types: &'static [&'static str],
    pub what: &'static str,
}

pub const JSON: &[&str] = &["application/json"];

impl Operation {
    /// A call of the management plane without parameters that answers JSON.
    #[must_use]
    pub const fn get(path: &'static str, summary: &'static str, roles: &'static [Role]) -> Self {
        Self {
            plane: Plane::Management,
            method: "GET",
            path,
            summary,
            roles,
            parameters: &[],
            body: None,
            answers: &[Answer::OK],
            problems: &[],
        }
    }

    #[must_use]
    pub const fn with(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    #[must_use]
    pub const fn answering(mut self, answers: &'static [Answer]) -> Self {
        self.answers = answers;
        self
    }

    #[must_use]
    pub const fn refusing(mut self, problems: &'static [Answer]) -> Self {
        self.problems = problems;
        self
    }

    /// As a call that sends something.
    #[must_use]
    pub const fn taking(mut self, method: &'static str, body: Option<Body>) -> Self {
        self.method = method;
        self.body = body;
        self
    }

    #[must_use]
    pub const fn on(mut self, plane: Plane) -> Self {
        self.plane = plane;
        self
    }

    /// Whether its answer is about one subject, which a caller may or may not see.
    #[must_use]
    pub fn is_about_a_subject(&self) -> bool {
        let mut parameters = self.parameters.iter();
        parameters.any(|parameter| parameter.name == "subject")
    }
}

impl Parameter {
    /// A query parameter that may be left out.
    #[must_use]
    pub const fn query(
        name: &'static str,
        kind: Kind,
        what: &'static str,
        example: &'static str,
    ) -> Self {
        Self {
            name,
            place: Place::Query,
            required: false,
            kind,
            what,
            example,
        }
    }

    #[must_use]
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    #[must_use]
    pub const fn in_header(mut self) -> Self {
        self.place = Place::Header;
        self
    }

    /// What stands in the path.
    #[must_use]
    pub const fn path(name: &'static str, what: &'static str, example: &'static str) -> Self {
        let mut parameter = Self::query(name, Kind::Text, what, example).required();
        parameter.place = Place::Path;
        parameter
    }
}

/// The subject that is asked about, and all below it.
pub const SUBJECT: Parameter = Parameter::query(
    "subject",
    Kind::Text,
    "This subject and all below it; what the caller may not see is as though it did not exist",
    "tenant/acme",
);
/// How many entries a page holds.
pub const LIMIT: Parameter =
    Parameter::query("limit", Kind::Whole, "Entries of a page, at most", "10");
/// Where the page before ended.
pub const AFTER: Parameter = Parameter::query(
    "after",
    Kind::Text,
    "Where to go on, as the `Link` header of the page before has it",
    "",
);

/// One page of a list.
pub const LISTED: Answer = Answer::json(
    200,
    "One page; a `Link` header with `rel=\"next\"` leads to the next",
);
/// The store does not answer.
pub const ROWS_AWAY: Answer = Answer::problem(
    503,
    "Rows cannot be read now; `Retry-After` says when to try again",
);
/// The log does not answer.
pub const LOG_AWAY: Answer = Answer::problem(
    503,
    "The log does not answer; `Retry-After` says when to try again",
);

impl Answer {
    pub const OK: Self = Self::json(200, "What was asked for");

    #[must_use]
    pub const fn json(status: u16, what: &'static str) -> Self {
        Self {
            status,
            media_types: JSON,
            what,
        }
    }

    /// One without a body.
    #[must_use]
    pub const fn empty(status: u16, what: &'static str) -> Self {
        Self {
            status,
            media_types: &[],
            what,
        }
    }

    /// A problem's details.
    #[must_use]
    pub const fn problem(status: u16, what: &'static str) -> Self {
        Self {
            status,
            media_types: &["application/problem+json"],
            what,
        }
    }

    /// As something else than JSON too.
    #[must_use]
    pub const fn or(mut self, media_types: &'static [&'static str]) -> Self {
        self.media_types = media_types;
        self
    }
}
