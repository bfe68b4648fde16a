//! Address: finds the source and the action of a delivery, and refuses a bad head before the body is read.
//!
//! [`Request`] is the input from the HTTP side, [`Addressed`] the result. An unknown action with a well-formed signature is not
//! refused here. Only the body can prove the signature, and a signed body goes to the quarantine topic.

use std::sync::Arc;

use jiff::Timestamp;
use url::form_urlencoded;

use super::Refusal;
use crate::config::{SignaturePolicy, Source};
use crate::event::{Stream, Trace};
use crate::metrics::SourceMetrics;
use crate::outcome::Outcome;
use crate::signature::Signature;

/// The head of a request.
#[derive(Debug)]
pub struct Request<'a> {
    /// The source's name in the URL; `None` in the short form.
    pub source: Option<&'a str>,
    /// The action in the URL.
    pub action: &'a str,
    /// The URL's only `token` parameter, as it is written there; else the reason why there is none.
    pub token: Result<&'a str, &'static str>,
    /// The signature.
    pub signature: Claim,
    /// The trace context.
    pub trace: Trace,
}

/// The signature of a request, which is not verified yet.
#[derive(Debug, Clone, Copy)]
pub enum Claim {
    /// The request has no signature header.
    Missing,
    /// The mistake in the signature header.
    Malformed(&'static str),
    /// The request has one signature.
    Given(Signature),
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

/// A delivery with a configured source and a right token. Its action and signature are checked with the body.
#[derive(Debug)]
pub struct Addressed {
    pub(super) origin: Arc<Origin>,
    pub(super) action: RequestedAction,
    pub(super) claim: Claim,
    pub(super) trace: Trace,
    pub(super) received_at: Timestamp,
}

/// The action that a delivery is for.
#[derive(Debug, Clone)]
pub enum RequestedAction {
    /// The index of an action of the source.
    Known(usize),
    /// The name of an action that the source does not have, as in the URL; shortened if it is long.
    Unknown(Arc<str>),
}

/// Maximum length of an unknown action's name, in bytes.
const KEPT_NAME_BYTES: usize = 256;

impl Addressed {
    /// Checks the source, the token, the signature header and the action. `origin` is `None` for a source that is not configured,
    /// and `action_index` for an action that the source does not have.
    ///
    /// # Errors
    /// - The source is unknown.
    /// - The token is missing or wrong.
    /// - The source enforces signatures, and the signature is missing or malformed.
    pub(super) fn new(
        origin: Option<Arc<Origin>>,
        action_index: Option<usize>,
        request: Request<'_>,
    ) -> Result<Self, Refusal> {
        let unknown_source = || Refusal::new(Outcome::UnknownSource, "no source of this name is configured");
        let origin = origin.ok_or_else(unknown_source)?;
        check_token(&origin.source, request.token)
            .map_err(|detail| Refusal::new(Outcome::InvalidToken, detail))?;
        let kept_bytes = request.action.floor_char_boundary(KEPT_NAME_BYTES);
        let unknown = || RequestedAction::Unknown(request.action[..kept_bytes].into());
        let action = action_index.map_or_else(unknown, RequestedAction::Known);
        let Request { signature: claim, trace, .. } = request;
        let addressed = Self { origin, action, claim, trace, received_at: Timestamp::now() };
        let is_enforced = addressed.origin.source.policy == SignaturePolicy::Enforce;
        match claim {
            Claim::Missing | Claim::Malformed(_) if is_enforced => Err(addressed.unsigned()),
            _ => Ok(addressed),
        }
    }

    /// Returns the refusal of an unsigned delivery. If the action is unknown too, the refusal gives the action as the reason, since that
    /// is the more useful one.
    pub(super) fn unsigned(&self) -> Refusal {
        match (&self.action, self.claim) {
            (RequestedAction::Unknown(name), _) => {
                let hint = match self.origin.source.actions.nearest(name) {
                    Some(nearest) => format!("did you mean {nearest}?"),
                    None => "`nexudus-bridge actions` lists those that it knows".to_owned(),
                };
                let detail = format!("{name:?} is not an action of Nexudus, {hint}");
                Refusal::new(Outcome::UnknownAction, detail)
            }
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
}

impl RequestedAction {
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
fn check_token(source: &Source, token: Result<&str, &'static str>) -> Result<(), &'static str> {
    if source.accepts_token(None) {
        return Ok(());
    }
    let written = token?;
    let decoded = |text: &str| {
        form_urlencoded::parse(format!("={text}").as_bytes()).map(|(_, value)| value.into_owned()).collect()
    };
    let forms: [String; 3] = [written.to_owned(), decoded(written), decoded(&written.replace('+', "%2B"))];
    let is_right = forms.iter().fold(false, |found, form| found | source.accepts_token(Some(form)));
    if is_right { Ok(()) } else { Err("the URL's token is wrong") }
}
