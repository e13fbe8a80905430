//! The unit behind a cgroup: what people call it.

/// Digits of a container's id that tell it from others, as container tools show them.
const CONTAINER_ID: usize = 12;

/// The last part of a cgroup's path that names a service, a scope or a container; else the last
/// part. systemd's prefixes and the length of container ids are left out: `nginx.service`,
/// `docker 3f4e8a2b9c01`, `session-3.scope`.
///
/// The paths are those of systemd (`systemd.unit(5)`), Docker, Podman, containerd and Kubernetes
/// with either cgroup driver.
pub fn name(cgroup: &str) -> &str {
    let last = parts(cgroup).next().unwrap_or("");
    let name = of(cgroup).unwrap_or(last);
    if name.is_empty() {
        return "/";
    }
    container(name).unwrap_or(name)
}

/// The part of a cgroup's path that names a service, a scope or a container, as it stands there.
pub fn of(cgroup: &str) -> Option<&str> {
    parts(cgroup).find(|part| {
        part.ends_with(".service") || part.ends_with(".scope") || container(part).is_some()
    })
}

/// Whether a part of a cgroup's path is what people mean by a unit's name: its own, or as a container
/// is shown.
pub fn is_called(part: &str, name: &str) -> bool {
    part == name || container(part) == Some(name)
}

/// Whether a name is that of a container, as it is shown.
pub fn is_of_container(name: &str) -> bool {
    let id = name.rsplit('-').next().unwrap_or(name);
    id.len() == CONTAINER_ID && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The last part first.
fn parts(cgroup: &str) -> impl Iterator<Item = &str> {
    cgroup.rsplit('/').filter(|part| !part.is_empty())
}

/// The short id of a container, if that is what a part of a path names.
fn container(part: &str) -> Option<&str> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    // docker-ID, libpod-ID, cri-containerd-ID, crio-ID, or the ID alone.
    let id = part.rsplit('-').next().unwrap_or(part);
    let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let end = part.len() - id.len() + CONTAINER_ID;
    is_id.then(|| &part[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_call_it() {
        let id = "3f4e8a2b9c01d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b7c8d9e0";
        for (path, expected) in [
            ("/system.slice/nginx.service".to_owned(), "nginx.service"),
            (
                "/user.slice/user-1000.slice/session-3.scope".into(),
                "session-3.scope",
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-1.scope"
                    .into(),
                "app-firefox-1.scope",
            ),
            (
                format!("/system.slice/docker-{id}.scope"),
                "docker-3f4e8a2b9c01",
            ),
            (format!("/docker/{id}"), "3f4e8a2b9c01"),
            (
                format!("/machine.slice/libpod-{id}.scope/container"),
                "libpod-3f4e8a2b9c01",
            ),
            (
                format!("/kubepods.slice/kubepods-burstable.slice/cri-containerd-{id}.scope"),
                "cri-containerd-3f4e8a2b9c01",
            ),
            ("/system.slice/a.service/worker".into(), "a.service"),
            ("/init.scope".into(), "init.scope"),
            ("/mine".into(), "mine"),
            ("/".into(), "/"),
            ("".into(), "/"),
        ] {
            assert_eq!(name(&path), expected, "{path}");
        }
    }
}
