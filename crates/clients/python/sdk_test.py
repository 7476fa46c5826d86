"""The Python SDK against the engine of DOCKER_HOST; each outcome is one line of JSON."""

import contextlib
import io
import json
import os
import sys
import tarfile
import threading
import time
import traceback

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import (
    ConfigReference,
    EndpointSpec,
    Healthcheck,
    RestartPolicy,
    SecretReference,
    ServiceMode,
    UpdateConfig,
)

PATIENCE = 30
client = docker.from_env()


def until(what, look):
    """Asks again and again until there is something."""
    started = time.monotonic()
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() - started > PATIENCE:
            raise AssertionError(f"not seen within {PATIENCE} s: {what}")
        time.sleep(0.06)


def running(service):
    tasks = service.tasks(filters={"desired-state": "running"})
    return [task for task in tasks if task["Status"]["State"] == "running"]


@contextlib.contextmanager
def served(name, image="sem:1", count=1, **settings):
    """A service whose replicas run; removed at the end."""
    settings.setdefault("mode", ServiceMode("replicated", replicas=count))
    settings.setdefault("stop_grace_period", 3 * 10**9)
    service = client.services.create(image, name=name, **settings)
    try:
        until(f"{count} of {name}", lambda: len(running(service)) == count)
        yield service
    finally:
        service.remove()


def container_of(service):
    """Its one container."""
    label = f"com.docker.swarm.service.name={service.name}"
    found = client.containers.list(filters={"label": label})
    assert len(found) == 1, found
    return found[0]


@contextlib.contextmanager
def refused(error, status):
    try:
        yield
    except error as caught:
        assert caught.response.status_code == status, caught
        assert caught.explanation, caught
    else:
        raise AssertionError("it went well")


def the_engine():
    assert client.ping()
    version, info = client.version(), client.info()
    assert version["ApiVersion"] and version["Os"] == "linux", version
    assert info["Swarm"]["LocalNodeState"] == "active", info["Swarm"]
    assert client.df() is not None


def the_swarm_and_its_node():
    client.swarm.reload()
    assert client.swarm.attrs["ID"], client.swarm.attrs
    nodes = client.nodes.list()
    assert len(nodes) == 1 and nodes[0].attrs["Status"]["State"] == "ready", nodes
    assert client.nodes.get(nodes[0].id).attrs["ManagerStatus"]["Leader"]


def a_service_with_settings():
    settings = {
        "env": ["A=B"],
        "labels": {"a": "b"},
        "container_labels": {"c": "d"},
        "constraints": ["node.role==manager"],
        "restart_policy": RestartPolicy("on-failure", delay=10**9, max_attempts=2),
        "update_config": UpdateConfig(parallelism=2, order="start-first", monitor=10**9),
        "healthcheck": Healthcheck(test=["CMD", "/app", "health"], interval=10**9),
        "endpoint_spec": EndpointSpec(ports={18211: 8080}),
    }
    with served("py-settings", **settings) as service:
        spec = client.services.get("py-settings").attrs["Spec"]
        container = spec["TaskTemplate"]["ContainerSpec"]
        assert container["Env"] == ["A=B"] and container["Labels"] == {"c": "d"}, container
        assert container["Healthcheck"]["Test"] == ["CMD", "/app", "health"], container
        assert spec["UpdateConfig"]["Order"] == "start-first", spec
        port = client.services.get(service.id).attrs["Endpoint"]["Ports"][0]
        assert port["PublishedPort"] == 18211, port
        assert [s.id for s in client.services.list(filters={"label": "a=b"})] == [service.id]


def a_service_is_scaled_and_updated():
    with served("py-update", update_config=UpdateConfig(monitor=10**9)) as service:
        assert service.scale(2)
        until("two", lambda: len(running(service)) == 2)
        service.reload()
        service.update(image="sem:2")

        def completed():
            service.reload()
            return service.attrs.get("UpdateStatus", {}).get("State") == "completed"

        until("completed", completed)
        assert all(t["Spec"]["ContainerSpec"]["Image"] == "sem:2" for t in running(service))
        before = {task["ID"] for task in running(service)}
        service.force_update()
        until("others", lambda: len({t["ID"] for t in running(service)} - before) == 2)


def logs_of_a_service():
    with served("py-logs", env=["LOG_EVERY=50"]) as service:

        def lines(**options):
            return b"".join(service.logs(stdout=True, **options)).decode().splitlines()

        until("three lines", lambda: "out 3" in lines())
        assert len(lines(tail=2)) == 2
        errors = b"".join(service.logs(stderr=True, tail=1)).decode()
        assert errors.startswith("err "), errors
        followed = service.logs(stdout=True, follow=True, tail=0)
        assert next(iter(followed)).startswith(b"out ")
        container = container_of(service)
        said = container.logs(stderr=False, tail=3).decode().splitlines()
        assert len(said) == 3 and all(line.startswith("out ") for line in said), said


def a_command():
    with served("py-exec") as service:
        container = container_of(service)
        code, output = container.exec_run(["/app", "echo", "hi"], demux=True)
        assert (code, output) == (0, (b"hi\n", b"err:hi\n")), (code, output)
        assert container.exec_run(["/app", "exit", "3"]).exit_code == 3
        env = container.exec_run(["/app", "env"], environment={"FOO": "bar"}).output
        assert b"FOO=bar\n" in env, env
        on_terminal = container.exec_run(["/app", "echo", "hi"], tty=True).output
        assert b"hi\r\n" in on_terminal, on_terminal


def copy_in(container, name, content):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    assert container.put_archive("/", packed.getvalue())


def copied_out(container, name):
    stream, stat = container.get_archive(f"/{name}")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        content = archive.extractfile(name).read()
    assert stat["name"] == name and stat["size"] == len(content), stat
    return content


def files_in_and_out():
    with served("py-files") as service:
        container = container_of(service)
        copy_in(container, "note", b"hello")
        assert copied_out(container, "note") == b"hello"
        with refused(NotFound, 404):
            container.get_archive("/nosuch")


def a_container():
    with served("py-container") as service:
        container = container_of(service)
        assert container.status == "running" and container.name.startswith("py-container.1.")
        assert container.labels["com.docker.swarm.service.name"] == "py-container"
        stats = container.stats(stream=False)
        assert stats["memory_stats"]["usage"] > 0, stats
        assert client.containers.get(container.id).attrs["State"]["Running"]
        ended = {}
        waiting = threading.Thread(target=lambda: ended.update(container.wait()))
        waiting.start()
        container.kill()
        waiting.join(PATIENCE)
        assert ended["StatusCode"] == 137, ended


@contextlib.contextmanager
def made(name, *words, **settings):
    """A container outside any service that is not started yet; removed at the end."""
    labels = {"of": name}
    container = client.containers.create("sem:1", list(words), name=name, labels=labels, **settings)
    try:
        yield container
    finally:
        container.remove(force=True)


def a_container_runs_to_its_end():
    assert client.containers.run("sem:1", ["echo", "hi"], remove=True) == b"hi\n"
    try:
        client.containers.run("sem:1", ["exit", "3"], remove=True)
    except ContainerError as error:
        assert error.exit_status == 3, error
    else:
        raise AssertionError("it went well")
    with made("py-end", "echo", "hi", environment={"A": "B"}) as container:
        assert container.status == "created" and "A=B" in container.attrs["Config"]["Env"]
        with refused(APIError, 409):
            client.containers.create("sem:1", name="py-end")
        container.start()
        assert container.wait()["StatusCode"] == 0
        assert container.logs(stderr=False) == b"hi\n"
        assert container.logs(stdout=False) == b"err:hi\n"
        container.reload()
        state = container.attrs["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 0), state
        assert container.attrs["Name"] == "/py-end", container.attrs["Name"]
        filters = {"label": "of=py-end"}
        assert client.containers.list(filters=filters) == []
        assert client.containers.list(all=True, filters=filters) == [container]
    with refused(NotFound, 404):
        client.containers.get("py-end")


def a_container_is_stopped_and_started():
    with made("py-stopped") as container:

        def heard(count):
            return container.logs().count(b"listening 1\n") == count

        container.start()
        until("that it listens", lambda: heard(1))
        container.reload()
        first = container.attrs["State"]["Pid"]
        with refused(APIError, 409):
            container.remove()
        container.restart(timeout=5)
        until("that it listens again", lambda: heard(2))
        container.reload()
        assert container.attrs["State"]["Pid"] not in (0, first), container.attrs["State"]
        container.rename("py-renamed")
        container.stop(timeout=5)
        container = client.containers.get("py-renamed")
        assert container.status == "exited", container.status
        assert container.logs().endswith(b"got signal 15\n"), container.logs()


def a_container_is_attached_to():
    with made("py-attached", "echo", "hi") as container:
        output = container.attach(stdout=True, stderr=True, stream=True, demux=True)
        container.start()
        said = list(output)
        out = b"".join(piece for piece, _ in said if piece)
        errors = b"".join(piece for _, piece in said if piece)
        assert (out, errors) == (b"hi\n", b"err:hi\n"), said


def beside_a_container():
    with made("py-beside") as container:
        copy_in(container, "note", b"hello")
        container.start()
        assert container.exec_run(["/app", "readfile", "/note"]).output == b"hello"
        assert container.exec_run(["/app", "exit", "4"]).exit_code == 4
        assert copied_out(container, "note") == b"hello"
        assert container.top()["Processes"]
        assert container.stats(stream=False)["memory_stats"]["usage"] > 0


def events_of_a_service():
    since = int(time.time())
    seen = []
    events = client.events(decode=True, filters={"type": "service"})

    def listen():
        for event in events:
            if event["Actor"]["Attributes"].get("name") == "py-events":
                seen.append(event["Action"])

    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    with served("py-events"):
        until("create", lambda: "create" in seen)
    until("remove", lambda: "remove" in seen)
    events.close()
    until_now = int(time.time()) + 1
    past = client.events(decode=True, since=since, until=until_now, filters={"type": "service"})
    assert any(e["Actor"]["Attributes"].get("name") == "py-events" for e in past)


def configs_and_secrets():
    config = client.configs.create(name="py-config", data=b"the config", labels={"a": "b"})
    secret = client.secrets.create(name="py-secret", data=b"the secret")
    with refused(APIError, 409):
        client.secrets.create(name="py-secret", data=b"again")
    attached = {
        "configs": [ConfigReference(config.id, "py-config", filename="/c")],
        "secrets": [SecretReference(secret.id, "py-secret", filename="s")],
    }
    with served("py-objects", **attached) as service:
        container = container_of(service)
        for path, wanted in [("/c", b"the config"), ("/run/secrets/s", b"the secret")]:
            assert container.exec_run(["/app", "readfile", path]).output == wanted, path
        with refused(APIError, 400):
            secret.remove()
    assert client.configs.get("py-config").attrs["Spec"]["Labels"] == {"a": "b"}
    assert "Data" not in client.secrets.get("py-secret").attrs["Spec"]
    assert [c.id for c in client.configs.list(filters={"name": "py-config"})] == [config.id]
    config.remove()
    secret.remove()
    with refused(NotFound, 404):
        client.secrets.get("py-secret")


def networks_and_volumes():
    network = client.networks.create("py-net", driver="overlay")
    assert client.networks.get(network.id).name == "py-net"
    assert "ingress" in [known.name for known in client.networks.list()]
    network.remove()
    volume = client.volumes.create("py-volume", labels={"a": "b"})
    assert client.volumes.get("py-volume").attrs["Labels"] == {"a": "b"}
    assert "py-volume" in [known.name for known in client.volumes.list()]
    volume.remove()
    with refused(NotFound, 404):
        client.volumes.get("py-volume")


def images():
    tags = [tag for image in client.images.list() for tag in image.tags]
    assert "semh:3" in tags, tags
    image = client.images.get("sem:1")
    assert image.attrs["Config"]["Entrypoint"] == ["/app"], image.attrs
    assert image.tag("py-image", tag="x")
    assert client.images.get("py-image:x").id == image.id
    client.images.remove("py-image:x")
    with refused(ImageNotFound, 404):
        client.images.get("py-image:x")


def images_are_saved_and_loaded():
    image = client.images.get("sem:2")
    assert image.tag("py-saved", tag="1")
    packed = b"".join(client.images.get("py-saved:1").save(named="py-saved:1"))
    client.images.remove("py-saved:1")
    loaded = client.images.load(packed)
    assert [one.id for one in loaded] == [image.id], loaded
    assert client.images.get("py-saved:1").id == image.id
    client.images.remove("py-saved:1")


def an_image_is_pushed_and_pulled():
    registry = os.environ["REGISTRY"]
    repository = f"{registry}/py-pushed"
    login = {"username": os.environ["REGISTRY_USER"], "password": os.environ["REGISTRY_PASSWORD"]}

    def push(login):
        options = {"tag": "1", "auth_config": login, "stream": True, "decode": True}
        return list(client.images.push(repository, **options))

    image = client.images.get("sem:1")
    assert image.tag(repository, tag="1")
    told = push(login)
    assert not any("error" in line for line in told), told
    digest = next(line["aux"]["Digest"] for line in told if "aux" in line)
    client.images.remove(f"{repository}:1")
    pulled = client.images.pull(repository, tag="1", auth_config=login)
    assert pulled.id == image.id and f"{repository}@{digest}" in pulled.attrs["RepoDigests"]
    there = client.images.get_registry_data(f"{repository}:1", auth_config=login)
    assert there.id == digest, there.attrs
    told = push({**login, "password": "no"})
    assert any("denied" in line.get("error", "") for line in told), told
    with refused(NotFound, 404):
        client.images.pull(repository, tag="nosuch", auth_config=login)
    assert client.login(**login, registry=registry)["Status"]
    with refused(APIError, 401):
        client.login(login["username"], "no", registry=registry, reauth=True)
    client.images.remove(f"{repository}:1")


ALL = [
    the_engine,
    the_swarm_and_its_node,
    a_service_with_settings,
    a_service_is_scaled_and_updated,
    logs_of_a_service,
    a_command,
    files_in_and_out,
    a_container,
    a_container_runs_to_its_end,
    a_container_is_stopped_and_started,
    a_container_is_attached_to,
    beside_a_container,
    events_of_a_service,
    configs_and_secrets,
    networks_and_volumes,
    images,
    images_are_saved_and_loaded,
    an_image_is_pushed_and_pulled,
]


def main():
    wanted = sys.argv[1].replace(" ", "_") if len(sys.argv) > 1 else ""
    for test in ALL:
        if wanted not in test.__name__:
            continue
        started, reason = time.monotonic(), None
        try:
            test()
        except Exception as error:  # whatever it is, it is this test's outcome
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})"
        told = {
            "name": test.__name__.replace("_", " "),
            "reason": reason,
            "seconds": round(time.monotonic() - started, 1),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
