//! Globs over names, compared without regard to case.

use globset::{Glob, GlobBuilder, GlobMatcher};

/// A glob, or a name without wildcards.
#[derive(Debug, Clone)]
pub(in crate::config) struct Pattern {
    /// The text as configured.
    pub(in crate::config) text: String,
    matcher: GlobMatcher,
}

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// The text is not a glob.
    pub(in crate::config) fn new(text: &str) -> Result<Self, String> {
        let glob = GlobBuilder::new(text).case_insensitive(true).build();
        let matcher = glob.as_ref().map(Glob::compile_matcher);
        let matcher =
            matcher.map_err(|_| "is not a pattern, expected a name in which * stands for anything")?;
        Ok(Self { text: text.to_owned(), matcher })
    }

    pub(in crate::config) fn is_match(&self, name: &str) -> bool {
        self.matcher.is_match(name)
    }

    /// Returns the rank of the pattern among those that match the same name: names before globs, then by the number of characters
    /// that are not wildcards.
    pub(in crate::config) fn specificity(&self) -> (bool, usize) {
        let mut depth = 0_usize;
        let mut literals = 0;
        for character in self.text.chars() {
            match character {
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                '*' | '?' => {}
                _ => literals += usize::from(depth == 0),
            }
        }
        (!is_glob(&self.text), literals)
    }
}

/// Returns whether a text has wildcards.
pub(in crate::config) fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_before_globs_and_a_glob_with_more_literal_characters_before_others() {
        let ascending = ["*", "?*", "*{Create,Update}", "B*", "Booking*", "BookingCreat?", "BookingCreate"];
        let patterns = ascending.map(|text| Pattern::new(text).unwrap());
        assert!(patterns.is_sorted_by_key(Pattern::specificity));
        assert!(patterns[..6].iter().all(|glob| glob.specificity() < patterns[6].specificity()));
        assert!(patterns.iter().all(|pattern| pattern.is_match("bookingCREATE")));
        assert!(Pattern::new("*BookingCreate*").unwrap().specificity() < patterns[6].specificity());
    }

    #[test]
    fn a_text_that_is_not_a_glob_is_refused() {
        assert!(Pattern::new("[").unwrap_err().contains("is not a pattern"));
    }
}
