//! `sources.*.actions`: for which actions Nexudus is to have a webhook, as globs, names and numbers; `!` takes out.

use super::pattern::{Pattern, is_glob};
use crate::action::Actions;

/// Checks that a pattern matches an action of the source. The error has the nearest name.
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

/// The places of the actions that checked patterns choose: what any of them names, less what any `!` takes out. Where
/// all of them take out, from everything.
pub(super) fn chosen(patterns: &[String], actions: &Actions) -> Vec<usize> {
    let (out, mut into): (Vec<&str>, Vec<&str>) =
        patterns.iter().map(String::as_str).partition(|pattern| pattern.starts_with('!'));
    if into.is_empty() && !out.is_empty() {
        into.push("*");
    }
    let into: Vec<Choice> = into.into_iter().filter_map(|pattern| Choice::new(pattern, actions)).collect();
    let out: Vec<Choice> =
        out.into_iter().filter_map(|pattern| Choice::new(&pattern[1..], actions)).collect();
    let names = actions.iter().map(|action| action.name()).enumerate();
    let any = |patterns: &[Choice], action_index, name: &str| {
        patterns.iter().any(|pattern| pattern.means(action_index, name))
    };
    names
        .filter(|(action_index, name)| any(&into, *action_index, name) && !any(&out, *action_index, name))
        .map(|(action_index, _)| action_index)
        .collect()
}

enum Choice {
    Glob(Pattern),
    Index(usize),
}

impl Choice {
    fn new(text: &str, actions: &Actions) -> Option<Self> {
        if is_glob(text) {
            Pattern::new(text).ok().map(Self::Glob)
        } else {
            actions.find(text).map(Self::Index)
        }
    }

    fn means(&self, action_index: usize, name: &str) -> bool {
        match self {
            Self::Glob(pattern) => pattern.is_match(name),
            Self::Index(chosen) => *chosen == action_index,
        }
    }
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
