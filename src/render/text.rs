//! Fitting text into columns: cleaning, shortening, wrapping, padding. Must not know what the text means.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What stands for the part that was left out.
pub const ELLIPSIS: &str = "…";

/// Data as one harmless line: control characters (newlines, escapes) and direction overrides become spaces.
///
/// Case names, units and messages come from suites and workers; none may move the cursor or reorder a line.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control()
                || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
            {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Columns the text takes on a terminal.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// Cuts out the middle so that at most `room` columns remain; both ends of a case id tell more than its middle.
#[must_use]
pub fn shorten(text: &str, room: usize) -> String {
    shorten_by(text, |candidate| width(candidate) <= room)
}

/// Cuts out as little of the middle as makes `fits` true. `fits` must hold for every shorter text once it holds.
#[must_use]
pub fn shorten_by(text: &str, fits: impl Fn(&str) -> bool) -> String {
    if fits(text) {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let keep = |count: usize| -> String {
        // The tail gets the odd character: it names the backend and the last axis.
        let (front, back) = (count / 2, count - count / 2);
        let mut short: String = chars[..front].iter().collect();
        short.push_str(ELLIPSIS);
        short.extend(&chars[chars.len() - back..]);
        short
    };
    let (mut low, mut high) = (0, chars.len().saturating_sub(1));
    while low < high {
        let middle = (low + high).div_ceil(2);
        if fits(&keep(middle)) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    keep(low)
}

/// Fills up with spaces to `columns`, on the left if `right` aligned.
#[must_use]
pub fn pad(text: &str, columns: usize, right: bool) -> String {
    let fill = " ".repeat(columns.saturating_sub(width(text)));
    if right { fill + text } else { text.to_owned() + &fill }
}

/// Breaks prose at spaces into lines of at most `columns`; longer words are cut.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        for piece in pieces(word, columns) {
            let line = lines.last_mut().expect("starts with one line and only grows");
            if line.is_empty() {
                *line = piece;
            } else if width(line) + 1 + width(&piece) <= columns {
                line.push(' ');
                line.push_str(&piece);
            } else {
                lines.push(piece);
            }
        }
    }
    lines
}

fn pieces(word: &str, columns: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut used = 0;
    for c in word.chars() {
        let size = c.width().unwrap_or(0);
        if used + size > columns {
            pieces.push(String::new());
            used = 0;
        }
        used += size;
        pieces.last_mut().expect("starts with one piece and only grows").push(c);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_survive_shortening() {
        let id = "bert-base/batch=8/mode=inference@cpu";
        assert_eq!(shorten(id, 36), id);
        let short = shorten(id, 20);
        assert_eq!(width(&short), 20);
        assert!(short.starts_with("bert-base") && short.ends_with("rence@cpu"), "{short}");
        assert_eq!(shorten("漢字漢字漢字", 5), "漢…字");
    }

    #[test]
    fn wrapped_lines_keep_every_word() {
        let lines = wrap("the machine is not the one of the history", 12);
        assert!(lines.iter().all(|line| width(line) <= 12));
        assert_eq!(lines.join(" "), "the machine is not the one of the history");
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
    }

    #[test]
    fn cleaning_leaves_nothing_that_moves_the_cursor() {
        assert_eq!(clean("a\x1b[2J\nb\u{202e}c\u{9b}"), "a [2J b c ");
    }
}
