"""The Python SDK against the engine of DOCKER_HOST; each outcome is one line of JSON."""

import contextlib
import io
import json
import sys
import tarfile
import threading
import time
import traceback

import docker
from docker.errors import APIError, ImageNotFound, NotFound
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


def files_in_and_out():
    with served("py-files") as service:
        container = container_of(service)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo("note")
            member.size = 5
            archive.addfile(member, io.BytesIO(b"hello"))
        assert container.put_archive("/", packed.getvalue())
        stream, stat = container.get_archive("/note")
        assert stat["name"] == "note" and stat["size"] == 5, stat
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            assert archive.extractfile("note").read() == b"hello"
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


ALL = [
    the_engine,
    the_swarm_and_its_node,
    a_service_with_settings,
    a_service_is_scaled_and_updated,
    logs_of_a_service,
    a_command,
    files_in_and_out,
    a_container,
    events_of_a_service,
    configs_and_secrets,
    networks_and_volumes,
    images,
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
