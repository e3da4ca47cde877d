//! Keeps secrets out of logs, reports and the database.

/// Parts of names that mark a variable or an option as secret.
const MARKS: &[&str] = &[
    "token",
    "secret",
    "passw",
    "pwd",
    "jwt",
    "cookie",
    "cert",
    "passphrase",
    "credential",
    "private",
    "apikey",
    "_key",
    "-key",
    "auth",
    "database_url",
];
/// Shorter values are words, not secrets; replacing them would garble logs.
const SHORTEST: usize = 6;

/// Names that bear a mark and say where something is: the shell's own, whose value is in every path that is told.
const PLACES: &[&str] = &["pwd", "oldpwd"];

fn marked(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // A personal access token, and not `…_PATH`.
    let personal = name.split(['_', '-']).any(|word| word == "pat");
    !PLACES.contains(&name.as_str()) && (personal || MARKS.iter().any(|mark| name.contains(mark)))
}

/// Values of the environment's secret variables.
pub fn from_environment() -> Vec<String> {
    let mut values: Vec<String> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .flat_map(|(name, value)| if marked(&name) { of_value(value) } else { password(&value).into_iter().collect() })
        .filter(|value| value.len() >= SHORTEST)
        .collect();
    // Longer ones first, so that a secret that contains another leaves nothing behind.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values
}

/// A secret, and each of its lines: a log may show them one by one.
fn of_value(value: String) -> Vec<String> {
    let lines: Vec<String> = value.lines().map(str::trim).map(str::to_owned).collect();
    std::iter::once(value).chain(lines).collect()
}

/// The password of an address such as `https://user:password@host/`.
fn password(value: &str) -> Option<String> {
    let (authority, _) = value.split_once("://")?.1.split_once('@')?;
    let (_, password) = authority.split_once(':')?;
    (!authority.contains('/')).then(|| password.to_owned())
}

/// A text for people without the environment's secrets, and without who is logged in in its addresses: in
/// `https://token@host/` the name is the secret. What an SSH address begins with (`ssh://git@host/`) is none.
pub fn without_credentials(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + "://".len());
        kept.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || "'\"`".contains(c)).unwrap_or(after.len());
        let (authority, path) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') || !before.ends_with("ssh://") => {
                kept.push_str("[redacted]@");
                kept.push_str(host);
            }
            _ => kept.push_str(authority),
        }
        rest = path;
    }
    kept.push_str(rest);
    redacted(kept, &from_environment())
}

/// A text without the secrets.
pub fn redacted(text: String, secrets: &[String]) -> String {
    secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "[redacted]"))
}

/// The command line as typed, with secret values replaced.
pub fn command_line(arguments: impl Iterator<Item = String>, secrets: &[String]) -> String {
    let mut hide_next = false;
    let mut words = Vec::new();
    for argument in arguments {
        let word = match argument.split_once('=') {
            _ if hide_next => "[redacted]".to_owned(),
            Some((name, _)) if name.starts_with('-') && marked(name) => format!("{name}=[redacted]"),
            _ => redacted(argument.clone(), secrets),
        };
        hide_next = argument.starts_with('-') && marked(&argument) && !argument.contains('=');
        words.push(if word.contains(char::is_whitespace) { format!("'{word}'") } else { word });
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_places_are_no_secrets() {
        for secret in ["GITHUB_TOKEN", "MY_PAT", "PAT", "DB_PWD", "SSH_KEY", "Azure-Pat"] {
            assert!(marked(secret), "{secret}");
        }
        for place in ["PWD", "OLDPWD", "LD_LIBRARY_PATH", "REGRADE_PLUGIN_PATH", "PATH"] {
            assert!(!marked(place), "{place}");
        }
    }

    #[test]
    fn passwords_in_addresses_are_found() {
        assert_eq!(password("https://u:hunter22@host/x"), Some("hunter22".to_owned()));
        assert_eq!(password("https://host/a:b@c"), None);
        assert_eq!(password("plain"), None);
    }

    #[test]
    fn who_is_logged_in_does_not_survive_in_addresses() {
        let said = "fatal: unable to access 'https://u:p@ss@host:8080/a@b': no; see http://x/ and ssh://git@h/y";
        assert_eq!(
            without_credentials(said),
            "fatal: unable to access 'https://[redacted]@host:8080/a@b': no; see http://x/ and ssh://git@h/y"
        );
        assert_eq!(without_credentials("https://token@host"), "https://[redacted]@host");
        assert_eq!(without_credentials("ssh://u:p@host/x"), "ssh://[redacted]@host/x");
        assert_eq!(without_credentials("origin"), "origin");
    }

    #[test]
    fn secrets_do_not_survive_in_a_command_line() {
        let typed = ["regrade", "run", "--api-token", "abc", "--secret=xyz", "--db", "s3cr3t/x.sqlite", "a b"];
        let line = command_line(typed.into_iter().map(str::to_owned), &["s3cr3t".to_owned()]);
        assert_eq!(line, "regrade run --api-token [redacted] --secret=[redacted] --db [redacted]/x.sqlite 'a b'");
    }
}
