//! Receive, first half: finds the source and the action of a delivery, and refuses a bad head before the body is read.
//!
//! [`Request`] is the input from the HTTP side, [`Addressed`] the result. An unknown action with a well-formed signature is not
//! refused here: only the body can prove the signature, and a signed body goes to the quarantine topic.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use url::form_urlencoded;

use super::Refusal;
use crate::config::{SignaturePolicy, Source};
use crate::event::{Stream, Trace};
use crate::metrics::SourceMetrics;
use crate::outcome::Outcome;
use crate::signature::Signature;
use crate::telemetry::trace::DeliverySpan;

/// The head of a request.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// The source's name in the URL; `None` in the short form.
    pub source: Option<&'a str>,
    /// The action in the URL.
    pub action: &'a str,
    /// The URL's `token` parameter.
    pub token: Token<'a>,
    /// The signature header.
    pub signature: SignatureHeader<'a>,
    /// The trace context.
    pub trace: Trace,
}

/// The signature header.
#[derive(Debug, Clone, Copy, Default)]
pub enum SignatureHeader<'a> {
    /// No signature header.
    #[default]
    Missing,
    /// One header, or several with equal values.
    One(&'a [u8]),
    /// Several headers with different values.
    Different,
}

/// The `token` parameter of a URL.
#[derive(Debug, Clone, Copy, Default)]
pub enum Token<'a> {
    /// No `token` parameter.
    #[default]
    Missing,
    /// One parameter, as it is written in the URL.
    One(&'a str),
    /// Several parameters.
    Several,
}

/// A source with its metrics and the streams of its actions.
#[derive(Debug)]
pub struct Origin {
    /// The source.
    pub source: Arc<Source>,
    /// The metrics of the source.
    pub metrics: SourceMetrics,
    /// The streams of its actions, by action index.
    pub streams: Vec<Arc<Stream>>,
}

/// A delivery with a known source and a right token. Its action and signature are judged with the body.
#[derive(Debug)]
pub struct Addressed {
    pub(super) origin: Arc<Origin>,
    pub(super) action: Target,
    pub(super) claim: Claim,
    pub(super) trace: Trace,
    pub(super) span: DeliverySpan,
    pub(super) received_at: Timestamp,
    pub(super) started: Instant,
}

/// The action that a delivery is for.
#[derive(Debug, Clone)]
pub enum Target {
    /// The index of an action of the source.
    Known(usize),
    /// The name of an action that the source does not have, as in the URL; shortened if it is long.
    Unknown(Arc<str>),
}

/// The signature of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Claim {
    Missing,
    /// The mistake in the signature header.
    Malformed(&'static str),
    Given(Signature),
}

/// Maximum length of an unknown action's name, in bytes.
const KEPT_NAME_BYTES: usize = 256;

impl Addressed {
    /// Checks the token, the signature header and the action. `action_index` is `None` for an action that the source does not
    /// have.
    ///
    /// # Errors
    /// The token is missing or wrong, the signature is missing where one is enforced, or the action is unknown and the
    /// signature is missing or malformed.
    pub(super) fn new(
        origin: Arc<Origin>,
        action_index: Option<usize>,
        request: Request<'_>,
        started: Instant,
    ) -> Result<Self, Refusal> {
        let source = &origin.source;
        if let Err(detail) = check_token(source, request.token) {
            return Err(Refusal::new(Outcome::InvalidToken, detail));
        }
        let claim = match request.signature {
            SignatureHeader::Missing => Claim::Missing,
            SignatureHeader::Different => {
                Claim::Malformed("the request has different X-Nexudus-Hook-Signature headers")
            }
            SignatureHeader::One(value) => Signature::parse(value)
                .map_or(Claim::Malformed("the signature is not 64 hexadecimal digits"), Claim::Given),
        };
        let unknown = || Target::Unknown(shortened(request.action).into());
        let action = action_index.map_or_else(unknown, Target::Known);
        let (trace, span) = (request.trace, DeliverySpan::default());
        let addressed = Self { origin, action, claim, trace, span, received_at: Timestamp::now(), started };
        match addressed.claim {
            Claim::Missing | Claim::Malformed(_) if addressed.policy() == SignaturePolicy::Enforce => {
                Err(addressed.unsigned())
            }
            _ => Ok(addressed),
        }
    }

    /// Returns the refusal of an unsigned delivery. If the action is unknown, too, the refusal gives that reason, which helps the
    /// client more.
    pub(super) fn unsigned(&self) -> Refusal {
        match (&self.action, self.claim) {
            (Target::Unknown(name), _) => self.unknown_action(name),
            (_, Claim::Missing) => Refusal::new(
                Outcome::MissingSignature,
                "the X-Nexudus-Hook-Signature header is missing; is a shared secret set on Nexudus's webhooks page?",
            ),
            (_, Claim::Malformed(detail)) => Refusal::new(Outcome::InvalidSignature, detail),
            (_, Claim::Given(_)) => Refusal::new(
                Outcome::InvalidSignature,
                "the signature does not match the body under any secret of this source",
            ),
        }
    }

    fn unknown_action(&self, name: &str) -> Refusal {
        let hint = match self.origin.source.actions.nearest(name) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "`nexudus-bridge actions` lists those that it knows".to_owned(),
        };
        Refusal::new(Outcome::UnknownAction, format!("{name:?} is not an action of Nexudus, {hint}"))
    }

    /// Returns the signature policy of the source.
    pub(super) fn policy(&self) -> SignaturePolicy {
        self.origin.source.policy
    }

    /// Returns the index of the action; `None` for an unknown one.
    pub(super) fn action_index(&self) -> Option<usize> {
        self.action.action_index()
    }
}

impl Target {
    pub(super) fn action_index(&self) -> Option<usize> {
        match self {
            Self::Known(action_index) => Some(*action_index),
            Self::Unknown(_) => None,
        }
    }
}

/// Checks the token of a URL if the source has tokens. The token matches as written and in every encoded form: senders encode
/// different characters, and `+` is a space in a form. All forms are compared in constant time, so the duration does not depend
/// on the token.
fn check_token(source: &Source, token: Token<'_>) -> Result<(), &'static str> {
    if source.accepts_token(None) {
        return Ok(());
    }
    let written = match token {
        Token::Missing => return Err("the URL has no token"),
        Token::Several => return Err("the URL has more than one token parameter"),
        Token::One(written) => written,
    };
    let decoded = |text: &str| {
        form_urlencoded::parse(format!("={text}").as_bytes()).map(|(_, value)| value.into_owned()).collect()
    };
    let forms: [String; 3] = [written.to_owned(), decoded(written), decoded(&written.replace('+', "%2B"))];
    let is_right = forms.iter().fold(false, |found, form| found | source.accepts_token(Some(form)));
    if is_right { Ok(()) } else { Err("the URL's token is wrong") }
}

fn shortened(name: &str) -> &str {
    &name[..name.floor_char_boundary(KEPT_NAME_BYTES)]
}
