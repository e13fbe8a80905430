//! BitTorrent: Transmission, and aria2c at the other end.

use std::{fs, process::Command};

use anyhow::Result;
use kernel_tests::{flow::Direction, process::Process};

use super::{CLIENT, Scene};
use crate::stage::Post;

const TRACKER_PORT: u16 = 6969;
const SEEDER_PORT: u16 = 6881;
const PEER_PORT: u16 = 51_413;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "Transmission",
            needs: &["transmission-cli", "aria2c", "node"],
            carrier: "transmission-cl",
            server: seeder,
            client: transmission,
            ..CLIENT
        },
        Scene {
            name: "aria2c, seeding",
            needs: &["transmission-cli", "aria2c", "node"],
            carrier: "aria2c",
            direction: Direction::Upload,
            limited: super::Part::Server,
            server: seeder,
            client: transmission,
            ..CLIENT
        },
    ]
}

/// How large the shared file is; it holds zeros.
const SIZE: u64 = 2 << 30;

/// Writes the torrent of a file of zeros, and tells every peer of the two that there are.
const TRACKER: &str = "
const [,, address, port, size, torrent, ...peers] = process.argv;
const piece = 1 << 20;
const hash = require('crypto').createHash('sha1').update(Buffer.alloc(piece)).digest();
const pieces = Buffer.concat(Array(size / piece).fill(hash));
const announce = `http://${address}:${port}/announce`;
require('fs').writeFileSync(torrent, Buffer.concat([
    Buffer.from(`d8:announce${announce.length}:${announce}4:infod6:lengthi${size}e4:name6:zeros.` +
                `12:piece lengthi${piece}e6:pieces${pieces.length}:`), pieces, Buffer.from('ee')]));
const compact = Buffer.concat(peers.map((peer) => {
    const [host, port] = peer.split(':');
    return Buffer.from([...host.split('.').map(Number), port >> 8, port & 255]);
}));
const answer = Buffer.concat([Buffer.from(`d8:intervali5e5:peers${compact.length}:`), compact, Buffer.from('e')]);
require('http').createServer((request, response) => response.end(answer)).listen(port, address);
";

/// aria2c, which has all of the file, beside a tracker.
fn seeder(post: &Post<'_>) -> Result<Process> {
    fs::File::create(post.shared().join("zeros."))?.set_len(SIZE)?;
    let tracker = post.write("tracker.js", TRACKER)?;
    let address = post.server();
    let script = format!(
        "setpriv --pdeathsig KILL {node} {tracker} {address} {TRACKER_PORT} {SIZE} {place}/zeros.torrent {address}:{SEEDER_PORT} {client}:{PEER_PORT} & \
         until [ -s {place}/zeros.torrent ]; do sleep 0.1; done; \
         exec {aria2c} --quiet --no-conf --dir={shared} --listen-port={SEEDER_PORT} --bt-seed-unverified=true \
         --check-integrity=false --seed-ratio=0 --enable-dht=false --bt-enable-lpd=false --file-allocation=none \
         --allow-overwrite=true {place}/zeros.torrent",
        node = post.program("node")?.display(),
        tracker = tracker.display(),
        place = post.folder().display(),
        client = post.client(),
        aria2c = post.program("aria2c")?.display(),
        shared = post.shared().display(),
    );
    post.serve(crate::stage::shell(&script), SEEDER_PORT)
}

fn transmission(post: &Post<'_>) -> Result<Process> {
    let folder = post.folder();
    // Where a file is kept in memory, all of it would be taken at once.
    post.write("settings.json", "{\"preallocation\": 0}")?;
    let mut transmission = Command::new(post.program("transmission-cli")?);
    transmission.args(["-M", "-D", "-U", "-p", &PEER_PORT.to_string()]);
    transmission.arg("-g").arg(&folder);
    transmission.arg("-w").arg(&folder);
    transmission.arg(post.other().folder().join("zeros.torrent"));
    transmission.env("HOME", &folder);
    post.start(transmission)
}
