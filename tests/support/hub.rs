//! A server that plays GitHub for one test: it answers from a world that the test makes, writes down what it is asked, and
//! fails on demand.

#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests do")]

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::runtime::Runtime;
use wiremock::{Match, Mock, MockServer, Request, Respond, ResponseTemplate};

/// What the server knows.
pub trait World: Send + 'static {
    /// What GitHub would do.
    fn work(&mut self, method: &str, path: &str, request: &Request) -> ResponseTemplate;
}

/// An answer to give instead, once.
struct Fault {
    method: String,
    /// Part of the path.
    path: String,
    /// Whether the work is done all the same.
    done: bool,
    answer: ResponseTemplate,
}

struct Stage<W> {
    world: W,
    /// Method and path of each request.
    log: Vec<String>,
    faults: Vec<Fault>,
}

struct Player<W>(Arc<Mutex<Stage<W>>>);

struct Everything;

impl Match for Everything {
    fn matches(&self, _: &Request) -> bool {
        true
    }
}

impl<W: World> Respond for Player<W> {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut stage = self.0.lock().unwrap();
        let (method, path) = (request.method.to_string(), request.url.path().to_owned());
        stage.log.push(format!("{method} {path}"));
        let wanted = |fault: &Fault| fault.method == method && path.contains(&fault.path);
        match stage.faults.iter().position(wanted).map(|at| stage.faults.remove(at)) {
            Some(Fault { done: false, answer, .. }) => answer,
            Some(Fault { answer, .. }) => {
                stage.world.work(&method, &path, request);
                answer
            }
            None => stage.world.work(&method, &path, request),
        }
    }
}

/// The server; it ends when it is dropped.
pub struct Hub<W> {
    _runtime: Runtime,
    mock: MockServer,
    stage: Arc<Mutex<Stage<W>>>,
}

impl<W: World> Hub<W> {
    pub fn new(world: W) -> Self {
        let runtime = Runtime::new().unwrap();
        let stage = Arc::new(Mutex::new(Stage { world, log: Vec::new(), faults: Vec::new() }));
        let mock = runtime.block_on(async {
            let server = MockServer::start().await;
            Mock::given(Everything).respond_with(Player(stage.clone())).mount(&server).await;
            server
        });
        Self { _runtime: runtime, mock, stage }
    }

    pub fn uri(&self) -> String {
        self.mock.uri()
    }

    /// Looks at the world, or changes it.
    pub fn world<T>(&self, act: impl FnOnce(&mut W) -> T) -> T {
        act(&mut self.stage.lock().unwrap().world)
    }

    /// The next such request is answered so.
    pub fn fault(&self, method: &str, path: &str, done: bool, answer: ResponseTemplate) {
        let fault = Fault { method: method.to_owned(), path: path.to_owned(), done, answer };
        self.stage.lock().unwrap().faults.push(fault);
    }

    /// Every request so far.
    pub fn log(&self) -> Vec<String> {
        self.stage.lock().unwrap().log.clone()
    }

    /// Requests whose method and path contain this.
    pub fn asked(&self, what: &str) -> usize {
        self.log().iter().filter(|line| line.contains(what)).count()
    }
}

/// The page of a list that is asked for, a hundred items long, with a link to the next.
pub fn page(items: &[Value], request: &Request) -> ResponseTemplate {
    let page: usize =
        request.url.query_pairs().find(|(key, _)| key == "page").map_or(1, |(_, page)| page.parse().unwrap());
    let from = (page - 1) * 100;
    let shown: Vec<Value> = items.iter().skip(from).take(100).cloned().collect();
    let answer = ResponseTemplate::new(200).set_body_json(Value::Array(shown));
    if items.len() <= from + 100 {
        return answer;
    }
    let (host, path) = (request.headers.get("host").unwrap().to_str().unwrap(), request.url.path());
    let link = format!("<http://{host}{path}?per_page=100&page={}>; rel=\"next\"", page + 1);
    answer.insert_header("link", link.as_str())
}
