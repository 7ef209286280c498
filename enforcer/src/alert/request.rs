//! What is told of requests: to those who answer them, and to those who asked.

use schemas::orders::Numbers;
use schemas::policy::Meter;

use super::{Alert, AlertKind, id, numbers};
use crate::command::{Action, Command};

/// The alert of a request or of its answer, `meter` being that of the limit; `None` for commands of other kinds.
pub(crate) fn request(command: &Command, meter: &Meter) -> Option<Alert> {
    let Command {
        id: own,
        subject,
        at,
        reason,
        ..
    } = command;
    let wanted = |numbers: &Numbers| numbers::amount(meter, numbers.hard.unwrap_or_default());
    let until = command.until.map(|until| format!(" until {until}"));
    let until = until.unwrap_or_default();
    let (kind, title, follows, hard) = match &command.action {
        Action::Ask { limit, numbers } => (
            AlertKind::Asked,
            format!("{subject} asks for {} of {limit}{until}", wanted(numbers)),
            format!(
                "To answer: weir command approve {own} --for 30d, or weir command decline {own}, with a --reason."
            ),
            numbers.hard,
        ),
        Action::Approve {
            request,
            limit,
            numbers,
        } => (
            AlertKind::Answered,
            format!("{subject} has {} of {limit}{until}", wanted(numbers)),
            format!("Request {request} was approved."),
            numbers.hard,
        ),
        Action::Decline { request, limit } => (
            AlertKind::Answered,
            format!("{subject} does not get more of {limit}"),
            format!("Request {request} was declined."),
            None,
        ),
        _ => return None,
    };
    Some(Alert {
        id: id("request", own),
        kind,
        subject: subject.clone(),
        body: format!("{title}.\nReason: {reason}\n{follows}"),
        title,
        at: *at,
        limit: command.action.limit().map(str::to_owned),
        level: None,
        used: None,
        max: hard,
        decision: None,
        until: command.until,
    })
}
