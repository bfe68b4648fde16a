//! The help: commands in groups, examples under each command, and what `serve` needs to know of its surroundings.
//!
//! [`command`] is the one description of the command line; parsing, completion scripts and man pages use it.

use clap::builder::StyledStr;
use clap::{Command, CommandFactory as _};

use super::Cli;
use super::output::styled;

/// The commands by what they are for, in the order of the help.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Run", &["serve", "config", "health"]),
    ("Try", &["dev", "demo", "send", "sample"]),
    ("Look", &["tail", "actions", "schema", "asyncapi"]),
    ("Nexudus", &["webhooks", "catch-up"]),
    ("Kafka", &["topics", "quarantine"]),
    ("Other", &["sign", "verify", "completions", "man", "help"]),
];

/// Examples, one a line. Each begins with the command that it belongs to. Those of `catch-up` are beside its options.
const EXAMPLES: &str = include_str!("help/examples.txt");

const SERVE: &str = include_str!("help/serve.txt");

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 with --detailed-exitcode: differences found";

/// Returns the command line with its help. Parsing, completion scripts, man pages and `docs/cli.md` use it.
pub fn command() -> Command {
    let command = Cli::command();
    let template = template(&command);
    let command = command.mut_subcommands(|command| match command.has_subcommands() {
        true => {
            let parent = format!("{} ", command.get_name());
            command.mut_subcommands(|command| with_examples(command, &parent))
        }
        false => with_examples(command, ""),
    });
    command.help_template(template).after_help(EXIT_CODES)
}

fn with_examples(command: Command, parent: &str) -> Command {
    let path = format!("{parent}{} ", command.get_name());
    let examples = EXAMPLES.lines().filter(|line| format!("{line} ").starts_with(&path));
    let examples: String = examples.map(|example| format!("\n  nexudus-bridge {example}")).collect();
    if examples.is_empty() {
        return command;
    }
    let help = format!("Examples:{examples}");
    let more = match command.get_name() {
        "serve" => Some(SERVE.to_owned()),
        _ => command.get_after_help().map(ToString::to_string),
    };
    let long = more.map_or_else(|| help.clone(), |more| format!("{more}\n\n{help}"));
    command.after_help(help).after_long_help(long)
}

/// The program's help with its commands in groups.
fn template(command: &Command) -> StyledStr {
    let styles = command.get_styles();
    let (header, literal) = (*styles.get_header(), *styles.get_literal());
    let mut text = String::from("{about-with-newline}\n{usage-heading} {usage}\n");
    for (heading, names) in GROUPS {
        text.push_str(&format!("\n{}\n", styled(header, format!("{heading}:"))));
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about).map(ToString::to_string);
            let about = about.unwrap_or_else(|| "Print this help, or the help of a command".to_owned());
            text.push_str(&format!(
                "  {}{:<width$}  {about}\n",
                styled(literal, name),
                "",
                width = 11 - name.len()
            ));
        }
    }
    text.push_str(&format!("\n{}\n{{options}}{{after-help}}", styled(header, "Options:")));
    text.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;

    use super::*;

    /// The commands that have none of their own, by their path.
    fn leaves(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path}{}", sub.get_name());
            match sub.has_subcommands() {
                true => leaves(sub, &format!("{path} "), found),
                false => found.push((path, sub.clone())),
            }
        }
    }

    fn all() -> Vec<(String, Command)> {
        let mut command = command();
        command.build();
        let mut found = Vec::new();
        leaves(&command, "", &mut found);
        found
    }

    #[test]
    fn each_command_has_two_examples_that_are_right() {
        for (path, mut command) in all() {
            let help = command.render_help().to_string();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.strip_prefix("  nexudus-bridge ")).collect();
            assert!(examples.len() >= 2, "{path}: {help}");
            assert!(command.render_long_help().to_string().contains(examples[0]), "{path}");
            for example in examples {
                let words = shlex::split(example.split(" > ").next().unwrap()).unwrap();
                assert!(example.starts_with(&path), "{path}: {example}");
                let words = words.iter().map(String::as_str);
                if let Err(error) = Cli::try_parse_from(["nexudus-bridge"].into_iter().chain(words)) {
                    panic!("{example}: {error}");
                }
            }
        }
    }

    #[test]
    fn each_command_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut command = command();
        command.build();
        let named: BTreeSet<&str> = command.get_subcommands().map(Command::get_name).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), named);
        assert_eq!(grouped.len(), named.len());
        let help = command.render_help().to_string();
        let positions: Vec<_> =
            GROUPS.iter().map(|(heading, _)| help.find(&format!("\n{heading}:\n"))).collect();
        assert!(positions.is_sorted() && positions[0].is_some(), "{help}");
        assert!(help.contains("\n  serve        Run the bridge\n"), "{help}");
    }

    #[test]
    fn global_options_come_last_and_serve_names_its_surroundings() {
        for (path, mut command) in all() {
            let help = command.render_long_help().to_string();
            let (_, global) =
                help.split_once("\nGlobal options:\n").unwrap_or_else(|| panic!("{path}: {help}"));
            assert!(global.contains("--config") && !global.contains("\nOptions:"), "{path}: {help}");
            if path == "serve" {
                for text in
                    ["/etc/nexudus-bridge/nexudus-bridge.toml", "SIGTERM", "SIGHUP", "Exit codes\n  0 "]
                {
                    assert!(global.contains(text), "{text} in {help}");
                }
            }
        }
    }
}
