//! Reads all pages of a list while records are added and deleted.
//!
//! Pages are numbered. A deletion moves all later records one position forward, and the first record of the next page onto
//! a page that was read already. An addition hides this from the total. So a list of several pages is read again until a
//! pass has every record of the pass before it. Then neither pass has missed a record:
//!
//! - Lists are ordered by `Id`, and new records get larger ids. So a pass misses a record only if a record that the pass has
//!   read is deleted.
//! - The deleted record is missing in the next pass, so the two passes do not agree.
//!
//! A list of one page is one answer and is read once.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::client::{ApiClient, Call};
use super::error::{ApiError, ErrorKind};
use super::record::RawRecord;
use crate::lenient;

/// Maximum number of passes over a list until two of them agree.
const PASSES: usize = 5;

/// Number of pages in a row without a new record after which the list counts as endless.
const MAX_PAGES_WITHOUT_NEW: usize = 2;

/// Number of records on a requested page: the documented maximum of the API.
const PAGE_SIZE: usize = 1000;

/// A kind of records and its path in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// Its name in filters and roles, such as `WebHook`.
    pub entity: &'static str,
    /// Its path, such as `/api/sys/webhooks`.
    pub path: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    records: Vec<RawRecord>,
    has_next_page: bool,
    /// A count, in any form.
    total_items: Option<Value>,
}

impl ApiClient {
    /// Returns all records of a collection that match the filters, by their `Id`, each converted by `keep`. The API ignores unknown
    /// filters, so the caller has to check the records. Some fields are null in lists.
    ///
    /// # Errors
    /// [`ApiError`], also when no two passes agree.
    pub async fn list<T>(
        &self,
        collection: Collection,
        filters: &[(&str, String)],
        keep: impl Fn(RawRecord) -> T,
    ) -> Result<BTreeMap<i64, T>, ApiError> {
        let mut before: Option<BTreeSet<i64>> = None;
        for _ in 0..PASSES {
            let (records, pages) = self.pass(collection, filters, &keep).await?;
            let has_all = |before: BTreeSet<i64>| before.iter().all(|id| records.contains_key(id));
            if pages == 1 || before.is_some_and(has_all) {
                return Ok(records);
            }
            before = Some(records.into_keys().collect());
        }
        Err(self.error(ErrorKind::Shifting(collection.entity)))
    }

    /// Returns the API's number of records that match the filters; if the API gives none, the number on the first page.
    pub async fn total(&self, collection: Collection, filters: &[(&str, String)]) -> Result<usize, ApiError> {
        let page = self.page(collection, (1, 1), filters).await?;
        let total = page.total_items.as_ref().and_then(lenient::integer);
        Ok(total.and_then(|total| usize::try_from(total).ok()).unwrap_or(page.records.len()))
    }

    /// Reads all pages once. Returns the records and the number of pages.
    async fn pass<T>(
        &self,
        collection: Collection,
        filters: &[(&str, String)],
        keep: &impl Fn(RawRecord) -> T,
    ) -> Result<(BTreeMap<i64, T>, usize), ApiError> {
        let mut records = BTreeMap::new();
        let (mut pages, mut without_new) = (0, 0);
        loop {
            pages += 1;
            let page = match self.page(collection, (pages, PAGE_SIZE), filters).await {
                // The first page has shown that the user has the role.
                Err(ApiError { kind: ErrorKind::Unauthorized { status: 403, detail, .. }, .. })
                    if pages > 1 =>
                {
                    let entity = collection.entity;
                    return Err(self.error(ErrorKind::DeepPage { entity, page: pages, detail }));
                }
                page => page?,
            };
            let known = records.len();
            records.extend(page.records.into_iter().filter_map(|record| Some((record.id()?, keep(record)))));
            if !page.has_next_page {
                return Ok((records, pages));
            }
            without_new = if records.len() == known { without_new + 1 } else { 0 };
            if without_new > MAX_PAGES_WITHOUT_NEW {
                let detail = format!("the list of {} has no end", collection.entity);
                return Err(self.error(ErrorKind::Unavailable(detail)));
            }
        }
    }

    async fn page(
        &self,
        collection: Collection,
        (number, size): (usize, usize),
        filters: &[(&str, String)],
    ) -> Result<Page, ApiError> {
        let mut query =
            vec![("page", number.to_string()), ("size", size.to_string()), ("orderBy", "Id".to_owned())];
        query.extend(filters.iter().map(|(name, value)| (*name, value.clone())));
        self.get(&Call::read("list", collection.path, &query, format!("{}-List", collection.entity))).await
    }
}

#[cfg(test)]
mod tests;
