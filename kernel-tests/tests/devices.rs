//! What network devices carried, beside what processes did. Each alone: devices in other namespaces may have the same
//! index, and what is sent by them excuses what is nobody's here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult, clients,
    flow::{Direction, Flow},
    kernel_test,
    lab::{End, Family, Lab},
    outcome::{figure, patience, skipped},
    peer::Job,
    process::Process,
    product::{Top, process},
};
use serde_json::Value;

/// A program's end of the line that is the way out, as in a container.
fn with_a_way_out() -> Result<Lab> {
    let lab = Lab::new()?;
    lab.near().ip("route add default dev lab")?;
    Ok(lab)
}

/// Starts one of the programs in Python, and waits until it has begun.
fn begun(end: &End, program: &str, arguments: &[&str]) -> Result<Process> {
    let process = end.start(clients::python(program, arguments))?;
    (process.line(patience())?).with_context(|| format!("{program}: {}", process.errors()))?;
    Ok(process)
}

/// The only uplink of a sample.
fn uplink(sample: &Value) -> Result<&Value> {
    let uplinks = sample["devices"]["uplinks"]
        .as_array()
        .context("no uplinks")?;
    ensure!(
        uplinks.len() == 1 && uplinks[0]["name"] == "lab",
        "{uplinks:?}"
    );
    Ok(&uplinks[0])
}

fn rate(uplink: &Value, of: &str, direction: &str) -> Result<f64> {
    uplink[of][direction]
        .as_f64()
        .with_context(|| format!("no {of} of {direction}: {uplink}"))
}

#[test]
fn a_packet_sockets_traffic_is_shown_as_no_processs() -> TestResult {
    kernel_test!(alone);
    if clients::is_missing("python3") {
        return Ok(());
    }
    let lab = with_a_way_out()?;
    let mut top = Top::start_at(lab.near(), "1s")?;
    let sender = begun(lab.near(), "packet_socket.py", &["lab", "2000000", "60"])?;
    top.fresh()?;
    let sample = top.next_sample()?;
    let shown = rate(uplink(sample)?, "unaccounted_rate", "upload")?;
    figure(&format!(
        "2 MB/s by a packet socket, {shown} B/s shown; coverage {}",
        sample["coverage"]
    ));
    ensure!((1.6e6..2.4e6).contains(&shown), "{sample}");
    ensure!(
        sample["coverage"]
            .as_f64()
            .is_some_and(|coverage| coverage < 0.1),
        "{sample}"
    );
    ensure!(process(sample, sender.pid()).is_none(), "{sample}");
    drop(sender);
    top.fresh()?;
    let shown = rate(uplink(top.next_sample()?)?, "unaccounted_rate", "upload")?;
    ensure!(shown == 0.0, "{shown} B/s of nobody are shown");
    Ok(())
}

#[test]
fn a_devices_traffic_that_is_a_processs_is_not_shown_as_anothers() -> TestResult {
    kernel_test!(alone);
    let lab = with_a_way_out()?;
    let mut top = Top::start_at(lab.near(), "1s")?;
    for direction in Direction::ALL {
        let flow = Flow::start(&lab, Job::tcp().rate(2_000_000), direction, Family::V4)?;
        top.fresh()?;
        for _ in 0..3 {
            let sample = top.next_sample()?;
            let uplink = uplink(sample)?;
            let way = format!("{direction:?}").to_lowercase();
            let carried = rate(uplink, "rate", &way)?;
            // Headers, and on veth none for each segment.
            ensure!((1.8e6..2.4e6).contains(&carried), "{sample}");
            for way in ["download", "upload"] {
                let nobodys = rate(uplink, "unaccounted_rate", way)?;
                ensure!(
                    nobodys == 0.0,
                    "{direction:?}: {nobodys} B/s of nobody: {sample}"
                );
            }
        }
        drop(flow);
    }
    ensure!(
        top.latest()["coverage"]
            .as_f64()
            .is_some_and(|coverage| coverage > 0.99)
    );
    Ok(())
}

#[test]
fn what_goes_through_a_tunnel_is_counted_once() -> TestResult {
    kernel_test!(alone);
    if clients::is_missing("python3") {
        return Ok(());
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        skipped("needs tun devices");
        return Ok(());
    }
    let lab = with_a_way_out()?;
    let ends = [
        (lab.near(), lab.far(), "10.79.0.1/24"),
        (lab.far(), lab.near(), "10.79.0.2/24"),
    ];
    let _tunnel = ends
        .into_iter()
        .map(|(here, there, address)| {
            let [outside, other] = [here, there].map(|end| end.address(Family::V4).to_string());
            begun(
                here,
                "tunnel.py",
                &["tunnel", address, &outside, "7000", &other],
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let receiver = lab
        .far()
        .traffic(Job::tcp().listen("10.79.0.2:0".parse()?))?;
    let job = Job::tcp().rate(1_000_000).send();
    let mut top = Top::start_at(lab.near(), "1s")?;
    let _sender = lab.near().traffic(job.connect(receiver.address()?))?;
    std::thread::sleep(Duration::from_secs(1));
    top.fresh()?;
    let sample = top.next_sample()?;
    let uplink = uplink(sample)?;
    let carried = rate(uplink, "rate", "upload")?;
    figure(&format!(
        "1 MB/s through a tunnel: the device carried {carried} B/s"
    ));
    ensure!((0.95e6..1.35e6).contains(&carried), "{sample}");
    ensure!(
        rate(uplink, "unaccounted_rate", "upload")? == 0.0,
        "{sample}"
    );
    Ok(())
}
