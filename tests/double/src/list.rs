//! Lists: filters, order, pages and the envelope around them.
//!
//! Filters are `Entity_Field=value`, ranges `from_Entity_Field` and `to_Entity_Field`. What is not known is ignored
//! without an error and returns everything, as Nexudus does.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::manners::{Manners, TextFilters};
use crate::message::Reply;
use crate::record::{self, Record, quoted};

/// Records on a page of a query without `size`.
const DEFAULT_SIZE: usize = 25;

/// The query of a list.
pub(super) struct Query<'a> {
    /// The entity's name as filters have it.
    pub(super) entity: &'a str,
    pub(super) pairs: &'a [(String, String)],
    pub(super) manners: &'a Manners,
    /// Whether `from_` and `to_` work.
    pub(super) ranges: bool,
}

impl Query<'_> {
    /// Answers with the page that is asked for, or refuses a deep one. `shown` makes of a record what a listing has of it.
    pub(super) fn answer<'r>(
        &self,
        records: impl Iterator<Item = &'r Record>,
        shown: impl Fn(&Record) -> Record,
    ) -> Reply {
        if self.number("page").is_some_and(|page| page > self.manners.last_page) {
            return Reply::html(403);
        }
        Reply::json(self.page(records, shown))
    }

    /// The page that is asked for, in its envelope; `shown` makes of a record what a listing has of it.
    fn page<'r>(
        &self,
        records: impl Iterator<Item = &'r Record>,
        shown: impl Fn(&Record) -> Record,
    ) -> String {
        let mut found: Vec<&Record> = records.filter(|record| self.finds(record)).collect();
        let order = self.value("orderBy").filter(|field| !field.is_empty()).unwrap_or("Id");
        let descending = match self.value("dir").unwrap_or_default() {
            "-1" => true,
            "1" => self.manners.dir_one_is_descending,
            word => word.to_ascii_lowercase().starts_with("desc"),
        };
        found.sort_by(|a, b| {
            let order = compare(a.get(order), b.get(order));
            if descending { order.reverse() } else { order }
        });
        let page = self.number("page").unwrap_or(1);
        let size = self.number("size").unwrap_or(DEFAULT_SIZE).min(self.manners.largest_page);
        let total = found.len();
        let pages = total.div_ceil(size);
        let skipped = (page - 1).saturating_mul(size);
        let here: Vec<&Record> = found.into_iter().skip(skipped).take(size).collect();
        let (first, last) = if here.is_empty() { (0, 0) } else { (skipped + 1, skipped + here.len()) };
        let shown: Vec<Vec<u8>> = here.iter().map(|record| shown(record).to_json()).collect();
        let records = String::from_utf8(shown.join(&b','));
        let records = records.expect("records are text");
        let (order, dir) = (quoted(order), if descending { -1 } else { 1 });
        let (next, previous) = (page < pages, page > 1 && pages > 0);
        format!(
            r#"{{"Records":[{records}],"CurrentPage":{page},"CurrentPageSize":{size},"CurrentOrderField":{order},"CurrentSortDirection":{dir},"FirstItem":{first},"LastItem":{last},"PageNumber":{page},"PageSize":{size},"TotalItems":{total},"TotalPages":{pages},"HasNextPage":{next},"HasPreviousPage":{previous}}}"#
        )
    }

    fn number(&self, name: &str) -> Option<usize> {
        self.value(name)?.parse().ok().filter(|number| *number > 0)
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn finds(&self, record: &Record) -> bool {
        self.pairs.iter().all(|(name, wanted)| {
            let own = |name: &str| {
                let (entity, field) = name.split_once('_')?;
                if entity == self.entity { field_of(record, field) } else { None }
            };
            let bound = name.strip_prefix("from_").map(|name| (name, true));
            match bound.or_else(|| name.strip_prefix("to_").map(|name| (name, false))) {
                Some((name, from)) if self.ranges => {
                    own(name).is_none_or(|have| self.within(have, wanted, from))
                }
                Some(_) => true,
                None => own(name).is_none_or(|have| self.is_like(have, wanted)),
            }
        })
    }

    fn is_like(&self, have: &str, wanted: &str) -> bool {
        let Ok(have) = serde_json::from_str::<String>(have) else {
            return have.eq_ignore_ascii_case(wanted); // numbers, booleans; null equals no value
        };
        let (have, wanted) = (have.to_lowercase(), wanted.to_lowercase());
        match self.manners.text_filters {
            TextFilters::Exact => have == wanted,
            TextFilters::Contains => have.contains(&wanted),
        }
    }

    /// Whether a value is not below (`from`) or not above the bound. A bound that cannot be read is ignored.
    fn within(&self, have: &str, bound: &str, from: bool) -> bool {
        let order = if let Some(bound) = record::parse_time(bound) {
            let bound = bound - self.manners.range_zone;
            let Some(have) = time_of(have) else { return false };
            have.cmp(&bound)
        } else if let Ok(bound) = bound.parse::<f64>() {
            let Ok(have) = have.parse::<f64>() else { return false };
            have.total_cmp(&bound)
        } else {
            return true;
        };
        if from { order.is_ge() } else { order.is_le() }
    }
}

/// The field of a filter: `WebHook_Business` is about `BusinessId`.
fn field_of<'r>(record: &'r Record, field: &str) -> Option<&'r str> {
    record.get(field).or_else(|| record.get(&format!("{field}Id")))
}

fn time_of(json: &str) -> Option<Timestamp> {
    record::parse_time(&serde_json::from_str::<String>(json).ok()?)
}

/// Numbers as numbers, times as times, the rest as text; what is not there first.
fn compare(a: Option<&str>, b: Option<&str>) -> Ordering {
    let (Some(a), Some(b)) = (a, b) else { return a.is_some().cmp(&b.is_some()) };
    if let (Ok(a), Ok(b)) = (a.parse::<f64>(), b.parse::<f64>()) {
        return a.total_cmp(&b);
    }
    if let (Some(a), Some(b)) = (time_of(a), time_of(b)) {
        return a.cmp(&b);
    }
    a.cmp(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    /// The ids that a query finds, and its envelope.
    fn ask(query: &str, manners: &Manners) -> (Vec<i64>, serde_json::Value) {
        let records: Vec<Record> = (1..=60)
            .map(|id| {
                let name = if id % 20 == 0 { "Ten A".to_owned() } else { format!("Nº {id}") };
                let json = format!(
                    r#"{{"BusinessId":{},"Name":"{name}","UpdatedOn":"2026-03-02T10:{:02}:00.5Z","Id":{id}}}"#,
                    id % 3,
                    id - 1
                );
                Record::parse(json).unwrap()
            })
            .collect();
        let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let query = Query { entity: "Thing", pairs: &pairs, manners, ranges: manners.entity_ranges };
        let page: serde_json::Value =
            serde_json::from_str(&query.page(records.iter(), Record::clone)).unwrap();
        let ids = page["Records"].as_array().unwrap().iter().map(|record| record["Id"].as_i64().unwrap());
        (ids.collect(), page)
    }

    #[test]
    fn pages_follow_each_other_until_there_is_no_next() {
        let manners = Manners::default();
        let (ids, page) = ask("", &manners);
        assert_eq!(ids, (1..=25).collect::<Vec<_>>());
        assert_eq!((&page["TotalItems"], &page["TotalPages"]), (&60.into(), &3.into()));
        assert_eq!((&page["HasNextPage"], &page["HasPreviousPage"]), (&true.into(), &false.into()));
        let (ids, page) = ask("page=3&size=25", &manners);
        assert_eq!(ids, (51..=60).collect::<Vec<_>>());
        assert_eq!(
            (&page["FirstItem"], &page["LastItem"], &page["PageNumber"]),
            (&51.into(), &60.into(), &3.into())
        );
        assert_eq!((&page["HasNextPage"], &page["HasPreviousPage"]), (&false.into(), &true.into()));
        assert_eq!(ask("size=5000", &manners).1["PageSize"], 1000);
        let small = Manners { largest_page: 20, ..Manners::default() };
        assert_eq!(ask("size=25&page=3", &small).0, (41..=60).collect::<Vec<_>>());
        assert_eq!(ask("page=9", &manners).0, [0; 0]);
        assert_eq!(ask("page=x&size=0", &manners).0.len(), 25);
    }

    #[test]
    fn order_is_by_any_field_in_both_directions() {
        let mut manners = Manners::default();
        let first = |query: &str, manners: &Manners| ask(query, manners).0[0];
        assert_eq!(first("orderBy=Id&dir=-1", &manners), 60);
        assert_eq!(first("orderBy=UpdatedOn&dir=descending", &manners), 60);
        assert_eq!(first("orderBy=BusinessId&dir=1", &manners), 3);
        manners.dir_one_is_descending = true;
        assert_eq!(first("dir=1", &manners), 60);
        assert_eq!(first("dir=0", &manners), 1);
    }

    #[test]
    fn filters_find_exactly_or_in_part_and_unknown_ones_find_everything() {
        let mut manners = Manners::default();
        assert_eq!(ask("Thing_Name=ten a", &manners).0, [20, 40, 60]);
        assert_eq!(ask("Thing_Name=en", &manners).0, [20, 40, 60]);
        manners.text_filters = TextFilters::Exact;
        assert_eq!(ask("Thing_Name=en", &manners).0, [0; 0]);
        assert_eq!(ask("Thing_Name=Ten%20A&Thing_Id=40", &manners).0, [40]);
        assert_eq!(ask("Thing_Business=0", &manners).1["TotalItems"], 20);
        for unknown in [
            "Other_Name=x",
            "Thing_Nothing=x",
            "UpdatedSince=2030-01-01",
            "from_Thing_Nothing=2030-01-01T00:00",
        ] {
            assert_eq!(ask(unknown, &manners).1["TotalItems"], 60, "{unknown}");
        }
    }

    #[test]
    fn ranges_hold_their_bounds_and_can_be_in_another_zone_or_ignored() {
        let mut manners = Manners::default();
        let total = |query: &str, manners: &Manners| ask(query, manners).1["TotalItems"].as_u64().unwrap();
        assert_eq!(total("from_Thing_UpdatedOn=2026-03-02T10:50", &manners), 10);
        assert_eq!(total("from_Thing_UpdatedOn=2026-03-02T10:50:00.5Z", &manners), 10);
        assert_eq!(total("from_Thing_UpdatedOn=2026-03-02T10:50:01Z", &manners), 9);
        assert_eq!(total("from_Thing_Id=5&to_Thing_Id=9", &manners), 5);
        manners.range_zone = SignedDuration::from_mins(10); // the server takes 10:50 for its own, which is 10:40 UTC
        assert_eq!(total("from_Thing_UpdatedOn=2026-03-02T10:50", &manners), 20);
        manners.entity_ranges = false;
        assert_eq!(total("from_Thing_UpdatedOn=2026-03-02T10:50", &manners), 60);
    }
}
