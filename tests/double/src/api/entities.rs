//! Lists and single records of every entity of the catalogue, locations (`Business`) included, and of rooms. They are read only here;
//! tests and `dev` change them through [`World`](super::super::World).

use super::super::list::Query;
use super::super::manners::Manners;
use super::super::message::{Asked, Reply};
use super::super::record::Record;
use super::super::state::State;
use super::super::token::Account;
use super::super::{clock, kinds};
use super::{array, ids, missing, with_role};

/// Text that listings leave out: fields whose names end so. What listings really leave null is not documented.
const LONG_TEXTS: [&str; 8] =
    ["Description", "Notes", "Body", "Text", "Message", "Introduction", "AboutUs", "ProfileSummary"];

pub(super) fn answer(state: &State, asked: &Asked, account: &Account, path: &str) -> Reply {
    let (entity, id) = match (kinds::at(path), path.rsplit_once('/')) {
        (Some(entity), _) => (entity, None),
        (None, Some((parent, id))) if let Some(entity) = kinds::at(parent) => (entity, Some(id)),
        _ => return Reply::not_found(),
    };
    if asked.method != "GET" {
        return Reply::empty(405);
    }
    let records = || state.records.get(entity).into_iter().flatten();
    let manners = &state.manners;
    if let Some(id) = id {
        let found = || {
            let id: Option<i64> = id.parse().ok();
            let found = records().find(|(known, _)| Some(**known) == id);
            found.map_or_else(|| missing(state), |(_, it)| Reply::json(read(&it.record, manners).to_json()))
        };
        return with_role(account, &format!("{entity}-Read"), found);
    }
    with_role(account, &format!("{entity}-List"), || {
        let pairs = asked.query_pairs();
        if let Some(ids) = ids(&pairs) {
            let wanted = records().filter(|(id, _)| ids.contains(id));
            return array(wanted.map(|(_, it)| read(&it.record, manners).to_json()));
        }
        let query = Query { entity, pairs: &pairs, manners, ranges: manners.entity_ranges };
        query.answer(records().map(|(_, it)| &it.record), |record| listed(record, manners))
    })
}

/// A record as it is read over the API.
fn read(record: &Record, manners: &Manners) -> Record {
    let mut record = record.clone();
    if manners.times_to_the_second {
        for field in ["UpdatedOn", "CreatedOn"] {
            if let Some(time) = record.text(field).and_then(|text| clock::parse(&text)) {
                record.set_text(field, &clock::text_to_the_second(time));
            }
        }
    }
    record
}

/// A record as a listing has it: without lists, objects, long texts and who changed it.
fn listed(record: &Record, manners: &Manners) -> Record {
    let mut shown = read(record, manners);
    if manners.partial_listings {
        for (field, value) in record.fields() {
            let is_long = value.starts_with('"')
                && field != "ToStringText"
                && LONG_TEXTS.iter().any(|end| field.ends_with(end));
            if value.starts_with(['[', '{']) || is_long || field == "UpdatedBy" {
                shown.set(field, "null");
            }
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use nexudus_bridge::action::catalogue::ENTRIES;
    use nexudus_bridge::sender::payloads::payload;

    #[test]
    fn every_listing_leaves_something_out_and_keeps_what_tells_records_apart() {
        for entry in &ENTRIES {
            let record = Record::parse(payload(entry.name).unwrap()).unwrap();
            let shown = listed(&record, &Manners::default());
            assert_ne!(shown, record, "{}", entry.name);
            for field in ["Id", "UpdatedOn", "CreatedOn", "UniqueId", "ToStringText"] {
                assert_eq!(shown.get(field), record.get(field), "{}", entry.name);
            }
            let whole = Manners { partial_listings: false, ..Manners::default() };
            assert_eq!(listed(&record, &whole), record);
        }
    }
}
