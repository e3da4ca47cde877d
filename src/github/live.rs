//! GitHub itself, through octocrab. Waiting, repeating and giving up are decided here and not by the library, whose own
//! retries wait for no header and can post twice.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, HeaderMap, LINK, RETRY_AFTER};
use http::{Method as Verb, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use octocrab::{DefaultOctocrabBuilderConfig, NoAuth, NoSvc, NotLayerReady, Octocrab, OctocrabBuilder};
use serde_json::Value;

use crate::github::hub::{Answer, Call, Hub, HubError, Method};

/// Seconds that a connection may take.
const CONNECT_S: u64 = 15;
/// Seconds that the server may be silent.
const SILENT_S: u64 = 60;
/// The largest answer read, bytes. A page of a hundred comments at their largest is 26 MB of text.
const MOST_BYTES: usize = 64 << 20;
/// Attempts of a request that may be repeated.
const MOST_ATTEMPTS: u32 = 5;
/// The wait before the first repetition; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The least wait where the server names a limit and no time (GitHub's documentation: a minute).
const LIMIT_WAIT: Duration = Duration::from_secs(60);
/// Characters of a server's words that are repeated.
const SAID: usize = 300;

/// What makes a client, before it knows how to travel.
type Builder = OctocrabBuilder<NoSvc, DefaultOctocrabBuilderConfig, NoAuth, NotLayerReady>;

/// Who speaks and where.
#[derive(Clone)]
pub struct Login {
    /// Address of the API, such as `https://api.github.com`.
    pub api_url: String,
    /// A token; never printed.
    pub token: String,
    /// Waiting in all that a whole posting may cost.
    pub patience: Duration,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("api_url", &self.api_url)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The connection.
pub struct Live {
    runtime: tokio::runtime::Runtime,
    client: Octocrab,
    base: String,
    token: String,
    patience: Duration,
    waited: Duration,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Live").field("base", &self.base).field("waited", &self.waited).finish_non_exhaustive()
    }
}

/// What the server said, not yet judged.
struct Raw {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Raw {
    /// As JSON; what is none, as the beginning of a text.
    fn body(&self) -> Value {
        if self.bytes.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&self.bytes).chars().take(SAID).collect()))
    }
}

impl Live {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When the address is none, or the machine has no certificates.
    pub fn new(login: &Login) -> Result<Self, HubError> {
        Self::connect(login, |builder| Ok(builder.personal_token(login.token.clone())))
    }

    /// As a GitHub App itself, which may do little more than ask for tokens. `key` is its private key, as PEM.
    ///
    /// # Errors
    /// As [`Live::new`], and when the key is none.
    #[cfg(feature = "github-app")]
    pub fn of_app(api_url: &str, id: u64, key: &str, patience: Duration) -> Result<Self, HubError> {
        // The key never travels: there is no secret to look for in answers.
        let login = Login { api_url: api_url.to_owned(), token: String::new(), patience };
        Self::connect(&login, |builder| {
            builder
                .app_from_rsa_pem(octocrab::models::AppId(id), key)
                .map_err(|_| "the App's key is no RSA key in PEM".to_owned())
        })
    }

    fn connect(login: &Login, sign: impl FnOnce(Builder) -> Result<Builder, String>) -> Result<Self, HubError> {
        let wrong = |what: String| HubError::Unreachable { call: login.api_url.clone(), what };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let client = {
            let _inside = runtime.enter();
            let builder = Octocrab::builder()
                .base_uri(login.api_url.as_str())
                .map_err(|error| wrong(format!("this is no address of an API: {}", causes(&error))))?;
            sign(builder)
                .map_err(wrong)?
                .set_connect_timeout(Some(Duration::from_secs(CONNECT_S)))
                .set_read_timeout(Some(Duration::from_secs(SILENT_S)))
                .add_header(ACCEPT, "application/vnd.github+json".to_owned())
                .build()
                .map_err(|error| wrong(format!("{}; are ca-certificates installed?", causes(&error))))?
        };
        Ok(Self {
            runtime,
            client,
            base: login.api_url.trim_end_matches('/').to_owned(),
            token: login.token.clone(),
            patience: login.patience,
            waited: Duration::ZERO,
        })
    }

    /// One attempt. Errors are the transport's.
    fn attempt(&self, call: &Call, most: usize) -> Result<Raw, String> {
        let verb = match call.method {
            Method::Get => Verb::GET,
            Method::Post => Verb::POST,
            Method::Patch => Verb::PATCH,
            Method::Delete => Verb::DELETE,
        };
        let work = async {
            let request = http::request::Builder::new().method(verb).uri(format!("{}{}", self.base, call.path));
            let request = self.client.build_request(request, call.body.as_ref()).map_err(|error| causes(&error))?;
            let response = self.client.execute(request).await.map_err(|error| causes(&error))?;
            let (parts, body) = response.into_parts();
            let bytes = Limited::new(body, most)
                .collect()
                .await
                .map_err(|error| match error.downcast_ref::<LengthLimitError>() {
                    Some(_) => format!("the answer is larger than {most} bytes"),
                    None => format!("the answer broke off: {error}"),
                })?
                .to_bytes()
                .to_vec();
            Ok(Raw { status: parts.status, headers: parts.headers, bytes })
        };
        let limit = Duration::from_secs(2 * SILENT_S);
        self.runtime
            .block_on(async { tokio::time::timeout(limit, work).await })
            .unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())))
    }

    /// Sleeps, unless that would be more than may be waited in all.
    fn wait(&mut self, time: Duration) -> bool {
        if self.waited + time > self.patience {
            return false;
        }
        let start = Instant::now();
        std::thread::sleep(time);
        self.waited += start.elapsed();
        true
    }

    /// Without the token, should a server repeat it.
    fn safe(&self, text: &str) -> String {
        if self.token.is_empty() { text.to_owned() } else { text.replace(&self.token, "[redacted]") }
    }

    fn said(&self, body: &Value) -> String {
        let message =
            body.get("message").and_then(Value::as_str).or_else(|| body.as_str()).unwrap_or("no reason given");
        let errors = body.get("errors").filter(|errors| !errors.is_null());
        let errors = errors.map_or_else(String::new, |errors| format!(" {errors}"));
        let text: String = format!("{message}{errors}").chars().filter(|c| !c.is_control()).take(SAID).collect();
        self.safe(&text)
    }

    fn refused(&self, call: &Call, raw: &Raw) -> HubError {
        let (call, said) = (call.to_string(), self.said(&raw.body()));
        match raw.status.as_u16() {
            401 | 403 => {
                let needs = raw.headers.get("x-accepted-github-permissions").and_then(|value| value.to_str().ok());
                HubError::Denied { call, said, needs: needs.map(str::to_owned) }
            }
            status => HubError::Refused { call, status, said },
        }
    }

    /// Attempts until there is an answer that is no error, or none is to be had.
    fn insist(&mut self, call: &Call, most: usize) -> Result<Raw, HubError> {
        let mut attempt = 0;
        loop {
            let failure = match self.attempt(call, most) {
                Ok(raw) if raw.status.is_success() => return Ok(raw),
                Ok(raw) => {
                    if let Some(wait) = limit(&raw, attempt) {
                        // The server says that it did nothing, so that any request may be repeated.
                        if attempt < MOST_ATTEMPTS && self.wait(wait) {
                            attempt += 1;
                            continue;
                        }
                        let (call, said) = (call.to_string(), self.said(&raw.body()));
                        return Err(HubError::Limited { call, said, wait_s: wait.as_secs() });
                    }
                    if !raw.status.is_server_error() {
                        return Err(self.refused(call, &raw));
                    }
                    format!("{} {}", raw.status.as_u16(), self.said(&raw.body()))
                }
                Err(what) => self.safe(&what),
            };
            let again = call.method.is_idempotent() && attempt < MOST_ATTEMPTS;
            if !again || !self.pause(attempt) {
                return Err(HubError::Unreachable { call: call.to_string(), what: failure });
            }
            attempt += 1;
        }
    }
}

impl Hub for Live {
    fn send(&mut self, call: &Call) -> Result<Answer, HubError> {
        let raw = self.insist(call, MOST_BYTES)?;
        Ok(Answer { next: next_page(&raw.headers, &self.base), body: raw.body() })
    }

    fn download(&mut self, path: &str, most: usize) -> Result<Vec<u8>, HubError> {
        Ok(self.insist(&Call::get(path), most)?.bytes)
    }

    fn pause(&mut self, attempt: u32) -> bool {
        // Between half and all of it: who failed together must not come back together.
        let full = FIRST_WAIT * 2_u32.saturating_pow(attempt);
        let share = (RandomState::new().build_hasher().finish() % 1000) as f64 / 1000.0;
        self.wait(full.mul_f64(0.5 + share / 2.0))
    }
}

/// How long the server asks to wait; `None` where it does not limit. Both kinds of limit come as 403 or 429 (GitHub's
/// documentation of its rate limits).
fn limit(raw: &Raw, attempt: u32) -> Option<Duration> {
    let number = |name: &str| raw.headers.get(name).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let status = raw.status.as_u16();
    if status != 403 && status != 429 {
        return None;
    }
    if raw.headers.contains_key(RETRY_AFTER) {
        // A date instead of seconds is as good as no time.
        return Some(number(RETRY_AFTER.as_str()).map_or(LIMIT_WAIT, Duration::from_secs));
    }
    if number("x-ratelimit-remaining") == Some(0) {
        let now = jiff::Timestamp::now().as_second().max(0) as u64;
        let reset = number("x-ratelimit-reset").map(|at| Duration::from_secs(at.saturating_sub(now) + 1));
        return Some(reset.unwrap_or(LIMIT_WAIT));
    }
    let body = raw.body();
    let message = body.get("message").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    let limited = status == 429 || message.contains("secondary rate limit") || message.contains("abuse detection");
    limited.then(|| LIMIT_WAIT * 2_u32.saturating_pow(attempt))
}

/// Path of the next page, where it lies below the address that we speak to: the token goes nowhere else.
fn next_page(headers: &HeaderMap, base: &str) -> Option<String> {
    let links = headers.get(LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\""))?;
    let address = next.split_once('<')?.1.split_once('>')?.0;
    address.strip_prefix(base).filter(|path| path.starts_with('/')).map(str::to_owned)
}

/// An error with its causes, each said once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}
