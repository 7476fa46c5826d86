#!/usr/bin/env python3
"""Keeps nginx or haproxy in step with the tasks of a Docker Swarm, as a careful team would.

follow.py nginx|haproxy TEMPLATE FOLDER NAME=SERVICE:TARGET:LISTEN...

It listens to Docker's events and also asks twice a second, since a task's desired state changes
some three seconds before its container is told to stop, and there is no event for that. When the
set of tasks that take requests has changed, the settings are written anew and the proxy is
reloaded without dropping a connection. A service without tasks keeps those it had.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

ASK_EVERY = 0.5
EVENTS = ["health_status", "kill", "die", "start"]


class Docker(http.client.HTTPConnection):
    """The API on its Unix socket."""

    def __init__(self, timeout):
        super().__init__("docker", timeout=timeout)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.environ["DOCKER_HOST"].removeprefix("unix://"))

    def open(self, path, **filters):
        query = urllib.parse.urlencode({"filters": json.dumps(filters)})
        self.request("GET", f"{path}?{query}")
        answer = self.getresponse()
        if answer.status != 200:
            raise OSError(f"{path}: {answer.status} {answer.read()}")
        return answer


def get(path, **filters):
    docker = Docker(timeout=10)
    try:
        return json.load(docker.open(path, **filters))
    finally:
        docker.close()


def watch(wake):
    """Says at once that something happened to a container."""
    while True:
        try:
            docker = Docker(timeout=None)
            for _ in docker.open("/events", type=["container"], event=EVENTS):
                wake.set()
        except (OSError, http.client.HTTPException) as error:
            print(f"events: {error}", flush=True)
        time.sleep(1)


def tasks(services):
    """Name of a service -> addresses of its tasks that are to take requests."""
    gateway = get("/networks/docker_gwbridge")["Containers"]
    found = {}
    for name, (service, target, _) in services.items():
        found[name] = []
        for task in get("/tasks", service=[service], **{"desired-state": ["running"]}):
            container = task["Status"].get("ContainerStatus", {}).get("ContainerID")
            # Running means healthy for a service with a health check.
            if task["Status"]["State"] == "running" and container in gateway:
                address = gateway[container]["IPv4Address"].split("/")[0]
                found[name].append(f"{address}:{target}")
        found[name].sort()
    return found


def settings(kind, template, folder, services, found):
    text = template.replace("@folder@", folder)
    for name, (_, _, listen) in services.items():
        if kind == "nginx":
            lines = [f"server {address} max_fails=1 fail_timeout=2s;" for address in found[name]]
        else:
            label = str.maketrans(".:", "__")
            lines = [f"server t{a.translate(label)} {a}" for a in found[name]]
        text = text.replace(f"@{name}_servers@", "\n    ".join(lines))
        text = text.replace(f"@{name}_port@", listen)
    return text


class Proxy:
    def __init__(self, kind, folder):
        self.config = os.path.join(folder, f"{kind}.cfg")
        if kind == "nginx":
            self.start = ["nginx", "-c", self.config, "-g", "daemon off;"]
            self.check = ["nginx", "-t", "-q", "-c", self.config]
            self.reload = signal.SIGHUP
        else:
            self.start = ["haproxy", "-W", "-f", self.config]
            self.check = ["haproxy", "-c", "-q", "-f", self.config]
            self.reload = signal.SIGUSR2
        self.process = None

    def apply(self, text):
        beside = self.config + ".new"
        with open(beside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(beside, self.config)
        if self.process is None:
            self.process = subprocess.Popen(self.start)
        else:
            subprocess.run(self.check, check=True)
            self.process.send_signal(self.reload)

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)


def main():
    kind, template, folder, *rest = sys.argv[1:]
    with open(template, encoding="utf-8") as file:
        template = file.read()
    services = {name: tuple(of.split(":")) for name, of in (one.split("=") for one in rest)}
    proxy = Proxy(kind, folder)

    def end(*_):
        proxy.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    wake = threading.Event()
    threading.Thread(target=watch, args=[wake], daemon=True).start()
    last = {}
    while True:
        wake.clear()
        try:
            found = tasks(services)
            found = {name: found[name] or last.get(name, []) for name in found}
            if found != last and all(found.values()):
                proxy.apply(settings(kind, template, folder, services, found))
                print(f"{time.time():.3f} {found}", flush=True)
                last = found
        except (OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
            print(f"{time.time():.3f} {error}", flush=True)
        wake.wait(ASK_EVERY)


main()
