//! `sources.*.actions`: the actions that get a webhook in Nexudus, as globs, names and numbers. `!` before a pattern excludes.

use super::reader::pattern::{Pattern, is_glob};
use crate::action::{Action, Actions};

/// Checks that a pattern matches an action of the source. The error suggests the most similar name.
pub(super) fn check(pattern: &str, actions: &Actions) -> Result<(), String> {
    let bare = pattern.strip_prefix('!').unwrap_or(pattern);
    if is_glob(bare) {
        let glob = Pattern::new(bare)?;
        return match actions.iter().any(|action| glob.is_match(action.name())) {
            true => Ok(()),
            false => Err(format!("{pattern:?} matches no action; `nexudus-bridge actions` lists them")),
        };
    }
    match (actions.find(bare), actions.nearest(bare)) {
        (Some(_), _) => Ok(()),
        (None, Some(nearest)) => Err(format!("{pattern:?} is not an action, did you mean {nearest}?")),
        (None, None) => Err(format!(
            "{pattern:?} is not an action; `nexudus-bridge actions` lists them, extra_actions adds one"
        )),
    }
}

/// Returns the indexes of the actions that checked patterns choose: those that match any pattern without `!`, except those that
/// match any with `!`. If all patterns have `!`, they exclude from all actions.
pub(super) fn chosen(patterns: &[String], actions: &Actions) -> Vec<usize> {
    let choices = patterns.iter().map(|pattern| match pattern.strip_prefix('!') {
        Some(bare) => (false, matching(bare, actions)),
        None => (true, matching(pattern, actions)),
    });
    let (into, out): (Vec<_>, Vec<_>) = choices.partition(|(is_in, _)| *is_in);
    let any =
        |choices: &[(bool, Vec<usize>)], index| choices.iter().any(|(_, matching)| matching.contains(&index));
    let all = into.is_empty() && !out.is_empty();
    let is_chosen = |index: &usize| (all || any(&into, *index)) && !any(&out, *index);
    (0..actions.iter().count()).filter(is_chosen).collect()
}

/// Returns the indexes of the actions that match a glob, a name or a number.
fn matching(pattern: &str, actions: &Actions) -> Vec<usize> {
    if !is_glob(pattern) {
        return actions.find(pattern).into_iter().collect();
    }
    let Ok(glob) = Pattern::new(pattern) else { return Vec::new() };
    let matches = |(index, action): (usize, &Action)| glob.is_match(action.name()).then_some(index);
    actions.iter().enumerate().filter_map(matches).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &[&str]) -> Vec<String> {
        let actions = Actions::with_extras(["BookingMoved"]).unwrap();
        for pattern in patterns {
            check(pattern, &actions).unwrap();
        }
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        chosen(&patterns, &actions)
            .into_iter()
            .map(|action_index| actions.get(action_index).name().to_owned())
            .collect()
    }

    #[test]
    fn globs_names_and_numbers_choose_and_an_exclamation_mark_takes_out() {
        assert_eq!(names(&["*"]).len(), 90);
        assert_eq!(
            names(&["Booking*", "!BookingDelete", "61"]),
            ["BookingCreate", "BookingUpdate", "AccessControlUpdate", "BookingMoved"]
        );
        assert_eq!(
            names(&["!BookingDelete", "booking*", "!bookingMOVED"]),
            ["BookingCreate", "BookingUpdate"]
        );
        assert_eq!(names(&["!*Delete*"]).len(), 90 - 19);
        assert_eq!(names(&["{Team,Visitor}*ed"]).len(), 5);
        assert!(names(&["61", "!61"]).is_empty() && names(&[]).is_empty());
    }

    #[test]
    fn an_unknown_action_is_reported_with_the_nearest_name() {
        let actions = Actions::default();
        assert!(check("BookngCreate", &actions).unwrap_err().ends_with("did you mean BookingCreate?"));
        assert!(check("!TeamCreate", &actions).unwrap_err().ends_with("did you mean TeamCreated?"));
        assert!(check("Dinner*", &actions).unwrap_err().contains("matches no action"));
        assert!(check("[", &actions).unwrap_err().contains("is not a pattern"));
        assert!(
            check("1", &actions).is_err() && check("", &actions).is_err() && check("!", &actions).is_err()
        );
    }
}
