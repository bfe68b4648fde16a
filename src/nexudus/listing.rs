//! Reading all pages of a list, though records may come and go meanwhile.
//!
//! Pages are numbered, so a record that is deleted while they are read moves the next ones to the left, and one of them
//! past the page that is read next. That shows: the total shrinks, or fewer records came than were announced. Then all
//! pages are read again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::client::{Call, Client};
use super::error::{ApiError, ErrorKind};
use super::record::Record;
use crate::lenient;

/// How often a list is read before it counts as not readable.
const PASSES: usize = 5;

/// How many pages in a row may bring nothing new before the list counts as endless.
const BARREN: usize = 2;

/// A kind of records, and where the API keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collection {
    /// Its name in filters and roles, such as `WebHook`.
    pub entity: &'static str,
    /// Its path, such as `/api/sys/webhooks`.
    pub path: &'static str,
    /// How many records to ask for at once; the API gives 1000 at most.
    pub page_size: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    records: Vec<Record>,
    has_next_page: bool,
    /// A count, in any form.
    total_items: Option<Value>,
}

impl Page {
    /// Returns the number of records on all pages, if the API gives one.
    fn total(&self) -> Option<usize> {
        usize::try_from(lenient::integer(self.total_items.as_ref()?)?).ok()
    }
}

/// What one pass over the pages has found.
struct Pass<T> {
    records: BTreeMap<i64, T>,
    complete: bool,
}

impl Client {
    /// All records of a collection that pass the filters, by their `Id`. Filters that the API does not know are ignored
    /// by it, so look at the records again. Some fields are null in lists.
    ///
    /// # Errors
    /// [`ApiError`], also when the list kept changing.
    pub async fn list(
        &self,
        collection: Collection,
        filters: &[(&str, String)],
    ) -> Result<BTreeMap<i64, Record>, ApiError> {
        self.list_of(collection, filters, |record| record).await
    }

    /// The same with what `keep` makes of each record, for lists that are too long to be kept whole.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn list_of<T>(
        &self,
        collection: Collection,
        filters: &[(&str, String)],
        keep: impl Fn(Record) -> T,
    ) -> Result<BTreeMap<i64, T>, ApiError> {
        let mut before: Option<BTreeMap<i64, T>> = None;
        for _ in 0..PASSES {
            let Pass { records, complete } = self.pass(collection, filters, &keep).await?;
            // The total may count what this user does not see; then two equal passes are all there is.
            if complete || before.is_some_and(|before| before.keys().eq(records.keys())) {
                return Ok(records);
            }
            tracing::debug!("the list of {} changed while it was read; reading it again", collection.entity);
            before = Some(records);
        }
        Err(self.error(ErrorKind::Shifting(collection.entity)))
    }

    /// How many records pass the filters, as the API says; where it does not say, those of the first page.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn total(&self, collection: Collection, filters: &[(&str, String)]) -> Result<usize, ApiError> {
        let page = self.page(Collection { page_size: 1, ..collection }, 1, filters).await?;
        Ok(page.total().unwrap_or(page.records.len()))
    }

    async fn pass<T>(
        &self,
        collection: Collection,
        filters: &[(&str, String)],
        keep: &impl Fn(Record) -> T,
    ) -> Result<Pass<T>, ApiError> {
        let mut records = BTreeMap::new();
        let (mut announced, mut shrunk, mut barren) = (Vec::new(), false, 0);
        for number in 1.. {
            let page = self.page(collection, number, filters).await?;
            if let Some(total) = page.total() {
                shrunk |= announced.last().is_some_and(|before| total < *before);
                announced.push(total);
            }
            let known = records.len();
            records.extend(page.records.into_iter().filter_map(|record| Some((record.id()?, keep(record)))));
            if !page.has_next_page {
                break;
            }
            barren = if records.len() == known { barren + 1 } else { 0 };
            if barren > BARREN {
                let words = format!("the list of {} has no end", collection.entity);
                return Err(self.error(ErrorKind::Unavailable(words)));
            }
        }
        // What was added since the first page may be on a page that was read before; that is no loss.
        let complete = !shrunk && announced.first().is_none_or(|total| records.len() >= *total);
        Ok(Pass { records, complete })
    }

    async fn page(
        &self,
        collection: Collection,
        number: usize,
        filters: &[(&str, String)],
    ) -> Result<Page, ApiError> {
        let mut query = vec![
            ("page", number.to_string()),
            ("size", collection.page_size.to_string()),
            ("orderBy", "Id".to_owned()),
        ];
        query.extend(filters.iter().map(|(name, value)| (*name, value.clone())));
        self.get(&Call::read("list", collection.path, &query, format!("{}-List", collection.entity))).await
    }
}
