//! The wanted webhooks: for every source with a location, one for each of its actions.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::ExposeSecret;
use url::Url;

use super::redact::WebhookUrl;
use crate::config::{Config, Source};

/// A webhook that the configuration requires.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The source of its deliveries.
    pub source: Arc<Source>,
    /// The index of its action among those of the source.
    pub action_index: usize,
    /// The location.
    pub business_id: i64,
    /// The number of the action in Nexudus; `None` if neither the catalogue nor Nexudus has it.
    pub action_id: Option<i64>,
    /// The URL of the webhook, with the source's first token.
    pub url: WebhookUrl,
}

impl Wanted {
    /// The action's name.
    pub fn action(&self) -> &str {
        self.source.actions.get(self.action_index).name()
    }
}

/// Returns every webhook that `config` requires, ordered by source and action. `numbers` maps the names of actions outside the
/// catalogue, in lower case, to their numbers in Nexudus.
pub fn wanted(config: &Config, public_url: &Url, numbers: &BTreeMap<String, i64>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for source in config.sources.values() {
        let Some(business_id) = source.business_id else { continue };
        wanted.extend(source.wanted.iter().map(|&action_index| {
            let action = source.actions.get(action_index);
            let number = action.number().map(i64::from);
            Wanted {
                action_index,
                business_id,
                action_id: number.or_else(|| numbers.get(&action.name().to_ascii_lowercase()).copied()),
                url: url(public_url, source, action.name()),
                source: Arc::clone(source),
            }
        }));
    }
    wanted
}

/// `{public_url}/webhooks/{action}` for the source `default`, else `{public_url}/webhooks/{source}/{action}`; then the token.
fn url(public_url: &Url, source: &Source, action: &str) -> WebhookUrl {
    let mut url = public_url.clone();
    let name = Some(&*source.name).filter(|name| *name != Source::DEFAULT);
    let names = ["webhooks"].into_iter().chain(name).chain([action]);
    url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(names);
    if let Some(token) = source.url_tokens.first() {
        url.query_pairs_mut().append_pair("token", token.expose_secret());
    }
    url.into()
}
