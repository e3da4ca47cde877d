//! The binding against a plugin in this process, for Miri (`just miri`) as much as for `cargo test`: what is leaked, freed twice, or
//! used after it is gone or where it may not be. Must not touch a real plugin: Miri runs no foreign code.

use std::any::Any;
use std::thread;

use crate::backend::program::Element;
use crate::backend::xla::pjrt::fake::{Bend, Fake};
use crate::backend::xla::pjrt::{Buffer, Client, Event, Options, PjrtError, Plugin, Result, Value};

const TWO_RESULTS: &[u8] = b"2";

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn devices(count: i64) -> Vec<(String, Value)> {
    vec![("device_count".to_owned(), Value::Int(count))]
}

/// A client with a device and an array of one number there.
fn one(plugin: &Plugin) -> Result<(Client, Buffer)> {
    let client = plugin.client(&[])?;
    let buffer = client.devices()?[0].upload(Element::F32, &[], &floats(&[1.0]))?;
    Ok((client, buffer))
}

/// Everything that the binding can do, once.
fn story(plugin: &Plugin) -> Result<()> {
    assert_eq!(plugin.version(), (0, 90));
    assert_eq!(plugin.attributes()?, []);
    let client = plugin.client(&devices(2))?;
    assert_eq!(client.platform()?, ("fake".to_owned(), "\u{fffd}one\nmore".to_owned()));
    let devices = client.devices()?;
    assert_eq!(devices.len(), 2);
    let description = devices[1].description()?;
    assert_eq!((description.id, description.kind.as_str()), (1, "fake device"));
    let attributes: Vec<String> =
        description.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(attributes, ["name=fake", "none=", "cores=2", "coords=1.0.0", "clock=1.5", "spare=true"]);
    assert_eq!(devices[1].local_id()?, 1);
    assert_eq!(devices[0].peak_memory()?, None);

    let mut arguments = Vec::new();
    for device in &devices {
        let carried = device.upload(Element::F32, &[2, 1], &floats(&[1.0, 2.0]))?;
        let kept = device.upload(Element::F32, &[], &floats(&[5.0]))?;
        carried.wait()?;
        arguments.push(vec![carried, kept]);
    }
    assert_eq!(devices[0].peak_memory()?, Some(12));
    let empty = devices[0].upload(Element::Bf16, &[0, 3], &[])?;
    assert_eq!((empty.element()?, empty.shape()?, empty.download()?), (Some(Element::Bf16), vec![0, 3], vec![]));

    let executable = client.compile(TWO_RESULTS, &Options::default())?;
    assert_eq!((executable.outputs()?, executable.code_size()?), (2, 2));
    assert_eq!(executable.fingerprint()?, "00fe");
    assert_eq!(executable.costs()?.len(), 2);
    assert_eq!(executable.memory()?.total(), 32);
    for step in 0..2 {
        let lists: Vec<Vec<&Buffer>> = arguments.iter().map(|list| list.iter().collect()).collect();
        let (results, events) = executable.launch(&lists, 1)?;
        events.iter().try_for_each(Event::wait)?;
        // Also what is over can be waited for.
        events.iter().try_for_each(Event::wait)?;
        for (list, results) in arguments.iter_mut().zip(results) {
            assert_eq!(list[1].download()?, floats(&[5.0]));
            let [carried, other]: [Buffer; 2] = results.try_into().expect("two results");
            assert_eq!(other.download()?, floats(&[6.0]));
            list[0] = carried;
        }
        let more = 1.0 + step as f32;
        assert_eq!(arguments[1][0].download()?, floats(&[1.0 + more, 2.0 + more]));
    }

    let bytes = executable.serialize()?;
    let restored = client.restore(&bytes)?;
    assert_eq!(restored.outputs()?, 2);

    let topology = plugin.topology("fake:2", &[])?;
    assert_eq!(topology.devices()?[1], description);
    let ahead = topology.compile(TWO_RESULTS, &Options::default())?;
    drop(topology);
    assert_eq!(ahead.outputs()?, 2);
    Ok(())
}

#[test]
fn everything_works_and_is_given_back() {
    let fake = Fake::new(Bend::Honest, None);
    story(&fake.plugin().expect("a plugin")).expect("the story");
    fake.over("the story");
}

#[test]
fn every_call_may_be_refused() {
    let fake = Fake::new(Bend::Honest, None);
    story(&fake.plugin().expect("a plugin")).expect("the story");
    let calls = fake.calls();
    assert!(calls.len() > 100, "{}", calls.len());
    for (place, call) in calls.iter().enumerate() {
        if cfg!(miri) && calls[..place].contains(call) {
            // The first of each function; Miri takes a second for a story.
            continue;
        }
        let fake = Fake::new(Bend::Honest, Some(place));
        let ended = fake.plugin().and_then(|plugin| story(&plugin));
        let when = format!("{call}, call {place}");
        if call.ends_with("_Destroy") {
            assert_eq!(ended, Ok(()), "{when}");
        } else {
            let refused = PjrtError::Plugin { call, code: 10, message: "told to refuse".to_owned() };
            assert_eq!(ended, Err(refused), "{when}");
        }
        fake.over(&when);
    }
}

#[test]
fn every_function_may_be_missing() {
    let fake = Fake::new(Bend::Honest, None);
    story(&fake.plugin().expect("a plugin")).expect("the story");
    let mut calls = fake.calls();
    // Without what frees it a thing stays, and no binding can do anything about it.
    calls.retain(|call| !call.ends_with("_Destroy"));
    calls.sort_unstable();
    calls.dedup();
    for call in calls {
        let fake = Fake::new(Bend::Honest, None);
        let ended = fake.lacking(&[call]).and_then(|plugin| story(&plugin));
        assert_eq!(ended, Err(PjrtError::Missing(call)));
        fake.over(call);
    }
}

/// The error of compiling what is no program.
fn told(fake: &Fake, lacking: &[&str]) -> PjrtError {
    let plugin = fake.lacking(lacking).expect("a plugin");
    let client = plugin.client(&[]).expect("a client");
    client.compile(b"?", &Options::default()).expect_err("no program")
}

#[test]
fn errors_are_told_and_freed_whatever_the_plugin_has_for_them() {
    let call = "PJRT_Client_Compile";
    let plugin = |code, message: &str| PjrtError::Plugin { call, code, message: message.to_owned() };
    let fake = Fake::new(Bend::Honest, None);
    assert_eq!(told(&fake, &[]), plugin(3, "this is no program stack"));
    assert_eq!(told(&fake, &["PJRT_Error_GetCode"]), plugin(2, "this is no program stack"));
    assert_eq!(told(&fake, &["PJRT_Error_Message"]), plugin(3, ""));
    fake.over("errors");
    // Its code cannot be had: an error of an error.
    let place = fake.calls().iter().position(|call| *call == "PJRT_Error_GetCode");
    let fake = Fake::new(Bend::Honest, place);
    assert!(matches!(told(&fake, &[]), PjrtError::Plugin { .. }));
    fake.over("an error of an error");
    let fake = Fake::new(Bend::LongWords, None);
    assert!(matches!(told(&fake, &[]), PjrtError::Contract(_)));
    fake.over("an error with words that cannot be");
}

#[test]
fn what_breaks_the_contract_is_an_error_and_leaks_nothing() {
    use Bend::{
        Crooked, ManyDevices, ManyResults, NullBuffer, NullClient, NullCompiled, NullDescription, NullDevice,
        NullProgram, NullResult, NullTopology, OtherSize, OtherType,
    };
    let bends = [
        (Crooked, "a list of 1 entries"),
        (NullClient, "no client"),
        (NullDevice, "a device that is none"),
        (ManyDevices, "a list of"),
        (NullDescription, "does not describe"),
        (NullBuffer, "no buffer"),
        (OtherType, "has a type"),
        (OtherSize, "it would write"),
        (NullProgram, "no program"),
        (NullCompiled, "no program"),
        (ManyResults, "outputs"),
        (NullResult, "no buffer"),
        (NullTopology, "no topology"),
    ];
    for (bend, words) in bends {
        let fake = Fake::new(bend, None);
        let ended = fake.plugin().and_then(|plugin| story(&plugin));
        assert!(matches!(&ended, Err(PjrtError::Contract(text)) if text.contains(words)), "{bend:?}: {ended:?}");
        fake.over(words);
    }
}

#[test]
fn what_is_empty_may_be_null() {
    let fake = Fake::new(Bend::Nulls, None);
    let plugin = fake.plugin().expect("a plugin");
    let client = plugin.client(&[]).expect("a client");
    assert_eq!(client.platform(), Ok((String::new(), String::new())));
    assert!(client.devices().expect("devices").is_empty());
    let topology = plugin.topology("fake:2", &[]).expect("a topology");
    assert_eq!(topology.devices(), Ok(Vec::new()));
    for results in ["0", "1"] {
        let executable = client.compile(results.as_bytes(), &Options::default()).expect("a program");
        assert_eq!(executable.costs(), Ok(Vec::new()));
        assert_eq!(executable.fingerprint(), Ok(String::new()));
        assert_eq!(executable.serialize(), Ok(Vec::new()));
        assert!(matches!(executable.launch(&[], 0), Err(PjrtError::Argument(_))));
    }
    drop((client, topology));
    fake.over("nulls");
}

#[test]
fn programs_may_have_no_arguments_and_no_results() {
    let fake = Fake::new(Bend::Honest, None);
    let (client, buffer) = one(&fake.plugin().expect("a plugin")).expect("a client");
    let executable = client.compile(b"0", &Options::default()).expect("a program");
    for arguments in [Vec::new(), vec![&buffer]] {
        let (results, events) = executable.launch(&[arguments], 1).expect("a launch");
        assert!(results.len() == 1 && results[0].is_empty() && events.len() == 1);
        events[0].wait().expect("its end");
    }
    drop((client, buffer, executable));
    fake.over("no results");
}

#[test]
fn what_was_donated_is_used_up_and_freed() {
    let fake = Fake::new(Bend::Honest, None);
    let (client, buffer) = one(&fake.plugin().expect("a plugin")).expect("a client");
    let executable = client.compile(b"1", &Options::default()).expect("a program");
    let launch = |donated| executable.launch(&[vec![&buffer]], donated);
    launch(0).expect("a launch");
    assert_eq!(buffer.download(), Ok(floats(&[1.0])));
    launch(1).expect("a launch");
    let donated =
        |error: PjrtError| matches!(error, PjrtError::Plugin { code: 3, message, .. } if message.contains("donated"));
    assert!(donated(buffer.download().expect_err("it is gone")));
    assert!(donated(launch(0).expect_err("it is gone")));
    drop((client, buffer, executable));
    fake.over("donation");
}

#[test]
fn launches_may_fail_later() {
    let fake = Fake::new(Bend::FailsLater, None);
    let (client, buffer) = one(&fake.plugin().expect("a plugin")).expect("a client");
    let executable = client.compile(TWO_RESULTS, &Options::default()).expect("a program");
    let (results, events) = executable.launch(&[vec![&buffer]], 0).expect("it starts");
    assert!(events[0].wait().expect_err("it fails").is_out_of_memory());
    assert!(results[0][0].wait().expect_err("it fails").is_out_of_memory());
    assert!(results[0][1].download().expect_err("it fails").is_out_of_memory());
    drop((client, buffer, executable, results, events));
    fake.over("a failure");
}

#[test]
fn arguments_are_looked_at_before_the_plugin_sees_them() {
    let fake = Fake::new(Bend::Honest, None);
    let plugin = fake.plugin().expect("a plugin");
    let (client, buffer) = one(&plugin).expect("a client");
    let (other, stranger) = one(&plugin).expect("another");
    let executable = client.compile(b"1", &Options::default()).expect("a program");
    let device = client.devices().expect("devices").remove(0);
    let before = fake.calls().len();
    assert!(device.upload(Element::F32, &[2], &[0; 4]).is_err());
    assert!(device.upload(Element::F32, &[i64::MAX, 8], &[]).is_err());
    assert!(device.upload(Element::F32, &[-1], &[]).is_err());
    assert!(executable.launch(&[vec![&buffer], vec![]], 0).is_err());
    assert!(executable.launch(&[vec![&stranger]], 0).is_err());
    assert_eq!(fake.calls().len(), before);
    drop((client, buffer, device, other, stranger, executable));
    fake.over("arguments");
}

#[test]
fn truths_are_bytes() {
    let fake = Fake::new(Bend::OddTruth, None);
    let plugin = fake.plugin().expect("a plugin");
    assert_eq!(plugin.attributes(), Ok(vec![("odd".to_owned(), Value::Bool(true))]));
    let (client, buffer) = one(&plugin).expect("a client");
    assert_eq!(client.devices().expect("devices")[0].peak_memory(), Ok(Some(4)));
    drop((client, buffer));
    fake.over("truths");
}

/// Calls `look` with every order of so many.
fn orders(count: usize, look: &mut dyn FnMut(&[usize])) {
    fn more(left: &mut Vec<usize>, taken: &mut Vec<usize>, look: &mut dyn FnMut(&[usize])) {
        if left.is_empty() {
            look(taken);
        }
        for place in 0..left.len() {
            taken.push(left.remove(place));
            more(left, taken, look);
            left.insert(place, taken.pop().expect("just put there"));
        }
    }
    more(&mut (0..count).collect(), &mut Vec::new(), look);
}

#[test]
fn handles_go_in_any_order() {
    let fake = Fake::new(Bend::Honest, None);
    let plugin = fake.plugin().expect("a plugin");
    let mut number = 0;
    orders(6, &mut |order| {
        number += 1;
        if cfg!(miri) && number % 13 != 0 {
            return;
        }
        let (client, buffer) = one(&plugin).expect("a client");
        let device = client.devices().expect("devices").remove(0);
        let executable = client.compile(b"1", &Options::default()).expect("a program");
        let (mut results, mut events) = executable.launch(&[vec![&buffer]], 0).expect("a launch");
        let (result, event) = (results.remove(0), events.remove(0));
        let mut handles: [Option<Box<dyn Any>>; 6] = [
            Some(Box::new(client)),
            Some(Box::new(buffer)),
            Some(Box::new(device)),
            Some(Box::new(executable)),
            Some(Box::new(result)),
            Some(Box::new(event)),
        ];
        for place in order {
            handles[*place] = None;
        }
        fake.over(&format!("{order:?}"));
    });
    orders(3, &mut |order| {
        let plugin = fake.plugin().expect("a plugin");
        let topology = plugin.topology("fake:2", &[]).expect("a topology");
        let compiled = topology.compile(b"1", &Options::default()).expect("a program");
        let mut handles: [Option<Box<dyn Any>>; 3] =
            [Some(Box::new(plugin)), Some(Box::new(topology)), Some(Box::new(compiled))];
        for place in order {
            handles[*place] = None;
        }
        fake.over(&format!("{order:?}"));
    });
}

#[test]
fn handles_go_on_any_thread() {
    let fake = Fake::new(Bend::Honest, None);
    let (client, buffer) = one(&fake.plugin().expect("a plugin")).expect("a client");
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let client = client.clone();
            let executable = client.compile(TWO_RESULTS, &Options::default()).expect("a program");
            let mine = client.devices().expect("devices").remove(0);
            thread::spawn(move || {
                let buffer = mine.upload(Element::F32, &[], &floats(&[2.0])).expect("an array");
                let (results, events) = executable.launch(&[vec![&buffer]], 1).expect("a launch");
                drop((client, mine, buffer, executable));
                (results, events)
            })
        })
        .collect();
    drop(client);
    thread::spawn(move || drop(buffer)).join().expect("no panic");
    for worker in workers {
        let (results, events) = worker.join().expect("no panic");
        events[0].wait().expect("its end");
        assert_eq!(results[0][1].download(), Ok(floats(&[3.0])));
    }
    fake.over("threads");
}

#[test]
fn no_more_of_a_table_is_read_than_it_says() {
    const HEAD: usize = 40;
    const ERRORS: usize = HEAD + 3 * 8;
    let fake = Fake::new(Bend::Honest, None);
    for bytes in [0, 7, 8, HEAD - 1] {
        assert!(matches!(fake.cut(bytes), Err(PjrtError::Contract(_))), "{bytes}");
    }
    for bytes in HEAD..=ERRORS + 24 {
        let plugin = fake.cut(bytes).expect("a plugin");
        // Half a function is none.
        let ended = plugin.attributes();
        if bytes < ERRORS + 16 {
            assert_eq!(ended, Err(PjrtError::Missing("PJRT_Plugin_Attributes")), "{bytes}");
        } else {
            assert_eq!(ended, Ok(Vec::new()), "{bytes}");
        }
        assert_eq!(plugin.client(&[]).expect_err("not that far"), PjrtError::Missing("PJRT_Client_Create"), "{bytes}");
    }
    // Later headers have more, which we do not know.
    story(&fake.cut(2000).expect("a plugin")).expect("the story");
    fake.over("tables");
}
