//! Tells people: signed webhooks and mail, through an outbox.
