//! clap's complaints in one line, its help as it is.

use super::failure::Failure;
use clap::error::{Error, ErrorKind};
use std::process::ExitCode;

/// Prints what clap wants to say: help and version are no errors, everything else is one line.
pub(super) fn report(error: &Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to tell when the reader of the help is gone.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => Failure::usage(line(&error.render().to_string())).report(),
    }
}

/// Joins the paragraphs that say what is wrong, and leaves out the usage that follows.
fn line(rendered: &str) -> String {
    let text = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let mut parts = Vec::new();
    for paragraph in text.split("\n\n") {
        let words = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.starts_with("Usage:") || words.starts_with("For more information") {
            break;
        }
        if !words.is_empty() {
            parts.push(words);
        }
    }
    parts.push("see --help".to_owned());
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_paragraph_and_the_tips_make_one_line() {
        let rendered = "error: unexpected argument '--nam' found\n\n  tip: a similar argument \
                        exists: '--name'\n\nUsage: gossipykv agent --name <NAME>\n\nFor more \
                        information, try '--help'.\n";
        let expected = "unexpected argument '--nam' found; tip: a similar argument exists: \
                        '--name'; see --help";
        assert_eq!(line(rendered), expected);
        assert_eq!(line("error: not given:\n  <KEY>\n\nUsage: x"), "not given: <KEY>; see --help");
    }
}
