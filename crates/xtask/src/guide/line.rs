//! Every command line of the guide with its outcome, in the order in which they are run here.

/// What becomes of a line.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Runs as written, after `before` where the guide takes something for granted, and says this.
    Runs { before: &'static str, expected: &'static str },
    /// Runs as written on a terminal, on which this is typed.
    Typed { before: &'static str, typed: &'static str, expected: &'static str },
    /// Runs as written and looks for something that may not be there.
    Finds { before: &'static str },
    /// Runs as written until somebody ends it.
    Follows { expected: &'static str },
    /// Belongs to the machine or to others; `instead` is run here where there is such a line.
    Host { why: &'static str, instead: &'static str, expected: &'static str },
    /// Does not work as written on Docker either: it is run, says `refusal`, and `instead` works.
    Broken {
        why: &'static str,
        refusal: &'static str,
        before: &'static str,
        instead: &'static str,
        expected: &'static str,
    },
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Self::Runs { .. } | Self::Typed { .. } | Self::Finds { .. } | Self::Follows { .. } => {
                "ran"
            }
            Self::Host { .. } => "host",
            Self::Broken { .. } => "broken",
        }
    }

    fn outcome(self) -> String {
        let code = |text: &str| format!("`{}`", text.replace('|', "\\|"));
        let after = |before: &str| match before {
            "" => String::new(),
            before => format!(", here after {}", code(before)),
        };
        match self {
            Self::Runs { before, .. } | Self::Finds { before } => {
                format!("runs as written{}", after(before))
            }
            Self::Typed { before, .. } => {
                format!("runs as written, on a terminal{}", after(before))
            }
            Self::Follows { .. } => "runs as written".to_owned(),
            Self::Host { why, instead: "", .. } => format!("belongs to the host: {why}"),
            Self::Host { why, instead, .. } => {
                format!("belongs to the host: {why}; here {}", code(instead))
            }
            Self::Broken { why, before, instead, .. } => format!(
                "does not work as written on Docker either: {why}; this does, and is run: {}{}",
                code(instead),
                after(before)
            ),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub text: &'static str,
    pub way: Way,
}

const fn runs(text: &'static str, expected: &'static str) -> Line {
    Line { text, way: Way::Runs { before: "", expected } }
}

const fn runs_after(before: &'static str, text: &'static str, expected: &'static str) -> Line {
    Line { text, way: Way::Runs { before, expected } }
}

const fn typed(text: &'static str, typed: &'static str, expected: &'static str) -> Line {
    Line { text, way: Way::Typed { before: "", typed, expected } }
}

const fn finds(before: &'static str, text: &'static str) -> Line {
    Line { text, way: Way::Finds { before } }
}

const fn follows(text: &'static str, expected: &'static str) -> Line {
    Line { text, way: Way::Follows { expected } }
}

const fn host(text: &'static str, why: &'static str) -> Line {
    Line { text, way: Way::Host { why, instead: "", expected: "" } }
}

const REMOTE: &str = "a connection to another machine";
const SYSTEM: &str = "what the machine itself is, has or does";
const BAD_RELEASE: &str = "NEVER_HEALTHY=1 ./swarm-deploy --version bad";
const TWO: &str = "with two replicas the inner command names two containers, and Docker takes the second \
    for the program to run in the first";
/// As `docker exec` says it.
const NO_SUCH_PROGRAM: &str = "executable file not found";
const UP: &str = "docker-compose -f docker-compose.db.yml up -d";

pub const LINES: &[Line] = &[
    host("ssh azureuser@ADDRESS", REMOTE),
    host("cd ~/ala-improved/deployment", "a folder of the machine"),
    runs_after(
        "keel build -c docker-compose.db.yml && docker network create -d overlay --attachable --label com.docker.stack.namespace=ala ala-network",
        UP,
        "ala-db ... done",
    ),
    runs("docker ps | grep ala-db", "ala-db"),
    runs_after(
        "until docker ps | grep ala-db | grep -q '(healthy)'; do sleep 0.5; done",
        "docker exec ala-db pg_isready -U ala_user -d ala_production",
        "accepting connections",
    ),
    runs("./swarm-deploy --version 20241112-143000", "release 20241112-143000 of ala is live"),
    runs("./swarm-deploy", "of ala is live"),
    runs("./swarm-deploy --skip-build", "ala"),
    runs("docker service ls", "ala_api"),
    runs("docker service ps ala_api", "Running"),
    runs("docker service ps ala_frontend", "Running"),
    follows("docker service logs -f ala_api", "ala_api."),
    follows("docker service logs -f ala_frontend", "ala_frontend."),
    runs("docker service logs --tail 100 ala_api", "ala_api."),
    runs("docker service logs --tail 50 ala_api", "ala_api."),
    runs("docker service logs --since 30m ala_api", "ala_api."),
    runs("curl http://localhost:5000/api/health", "\"status\":\"ok\""),
    runs("curl http://localhost:80", "<!doctype html>"),
    host("curl https://HOST/api/health", REMOTE),
    runs(
        "docker service inspect ala_api --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}'",
        "ala-api:",
    ),
    runs(
        "docker service inspect ala_frontend --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}'",
        "ala-frontend:",
    ),
    runs(
        "docker service ps ala_frontend --format 'table {{.Name}}\\t{{.Image}}\\t{{.CurrentState}}\\t{{.Error}}'",
        "ala_frontend.1",
    ),
    runs(
        "docker service ps ala_api --format 'table {{.Name}}\\t{{.Image}}\\t{{.CurrentState}}\\t{{.Error}}'",
        "ala_api.1",
    ),
    runs("docker ps --format 'table {{.Names}}\\t{{.Image}}\\t{{.Status}}'", "(healthy)"),
    runs("docker ps -a", "ala_api.1"),
    runs_after(
        "docker tag ala-frontend:20241112-143000 ala-frontend:cors-fixed",
        "docker image inspect ala-frontend:cors-fixed --format '{{.Created}}'",
        "T",
    ),
    runs(
        "docker exec $(docker ps -q --filter name=ala_frontend.1) ls -la /usr/share/nginx/html/assets/ | grep Treatment",
        "TreatmentSelection-",
    ),
    follows("docker stats", "ala_api."),
    runs("docker service inspect ala_api --pretty", "Service Mode:\tReplicated"),
    runs("docker service inspect ala_api", "\"Name\": \"ala_api\""),
    runs("docker service rollback ala_api", "converged"),
    runs("docker service rollback ala_frontend", "converged"),
    runs("docker service rollback ala_api && docker service rollback ala_frontend", "converged"),
    runs("docker service update --image ala-api:20241112-143000 ala_api", "converged"),
    runs("docker service update --image ala-frontend:20241112-143000 ala_frontend", "converged"),
    runs("docker service update --rollback ala_api", "converged"),
    runs("docker service update --force ala_api", "converged"),
    runs("docker service update --force ala_frontend", "converged"),
    runs("docker service scale ala_api=3", "scaled to 3"),
    runs("docker service scale ala_api=1", "scaled to 1"),
    finds(BAD_RELEASE, "docker service ps ala_api | grep -i failed"),
    finds("", "docker service ps ala_api | grep -E \"Preparing|Starting\""),
    finds("", "docker service logs ala_api | grep ERROR"),
    finds("", "docker service logs ala_api | grep -E \"ERROR|WARNING|UNAUTHORIZED\""),
    runs("docker info | grep Swarm", "active"),
    runs("docker exec ala-db pg_dump -U ala_user ala_production > backup.sql", ""),
    runs(
        "docker exec ala-db pg_dump -U ala_user ala_production > ~/backups/ala_db_$(date +%Y%m%d_%H%M%S).sql",
        "",
    ),
    runs("ls -lh ~/backups/ala_db_*.sql | tail -1", "ala_db_"),
    runs("docker service scale ala_frontend=0", "scaled to 0"),
    runs("docker service scale ala_api=0", "scaled to 0"),
    runs(
        "docker exec ala-db pg_dump -U ala_user ala_production > ~/emergency-backup-$(date +%Y%m%d_%H%M%S).sql",
        "",
    ),
    runs_after(
        "cp ~/backups/ala_db_2*.sql ~/backups/ala_db_YYYYMMDD_HHMMSS.sql",
        "cat ~/backups/ala_db_YYYYMMDD_HHMMSS.sql | docker exec -i ala-db psql -U ala_user -d ala_production",
        "COPY",
    ),
    runs("docker service scale ala_api=2", "scaled to 2"),
    runs_after(
        "echo 'CREATE TABLE table_name (id int);' > ~/ala-improved/backend/src/migrations/FILE.sql",
        "docker cp ~/ala-improved/backend/src/migrations/FILE.sql ala-db:/tmp/",
        "",
    ),
    typed(
        "docker exec -it ala-db psql -U ala_user -d ala_production -f /tmp/FILE.sql",
        "",
        "CREATE TABLE",
    ),
    typed(
        "docker exec -it ala-db psql -U ala_user -d ala_production -c \"\\d TABLE_NAME\"",
        "",
        "integer",
    ),
    typed("docker exec -it ala-db psql -U ala_user -d ala_production", "\\dt\n\\q\n", "treatments"),
    Line {
        text: "docker exec $(docker ps -q --filter name=ala_api) ping -c 3 ala-db",
        way: Way::Broken {
            why: TWO,
            refusal: NO_SUCH_PROGRAM,
            before: "",
            instead: "docker exec $(docker ps -q --filter name=ala_api | head -1) /app/ala-backend health",
            expected: "connected",
        },
    },
    Line {
        text: "docker exec $(docker ps -q --filter name=ala_frontend) openssl x509 -in /etc/ssl/certs/fullchain.crt -noout -dates",
        way: Way::Broken {
            why: TWO,
            refusal: NO_SUCH_PROGRAM,
            before: "docker service scale ala_frontend=2 && for id in $(docker ps -q --filter name=ala_frontend); do docker cp ~/ala-improved/etc $id:/; done",
            instead: "docker exec $(docker ps -q --filter name=ala_frontend | head -1) openssl x509 -in /etc/ssl/certs/fullchain.crt -noout -dates",
            expected: "notAfter=",
        },
    },
    runs("docker-compose -f docker-compose.db.yml restart db", "Restarting ala-db ... done"),
    runs_after(
        "docker service scale ala_api=0",
        "docker-compose -f docker-compose.db.yml down",
        "Removing ala-db ... done",
    ),
    Line {
        text: "sudo cp -r /var/lib/docker/volumes/deployment_postgres-data ~/corrupted-db-backup-$(date +%Y%m%d)",
        way: Way::Host {
            why: "where Docker keeps its volumes",
            instead: "cp -r $(docker volume inspect -f '{{.Mountpoint}}' deployment_postgres-data) ~/corrupted-db-backup-$(date +%Y%m%d) && ls ~/corrupted-db-backup-*",
            expected: "PG_VERSION",
        },
    },
    runs("docker volume rm deployment_postgres-data", "deployment_postgres-data"),
    runs("docker volume create deployment_postgres-data", "deployment_postgres-data"),
    runs_after(
        "cp ~/backups/ala_db_2*.sql ~/backups/ala_db_LATEST.sql && docker-compose -f docker-compose.db.yml up -d && until docker ps | grep ala-db | grep -q '(healthy)'; do sleep 0.5; done",
        "cat ~/backups/ala_db_LATEST.sql | docker exec -i ala-db psql -U ala_user -d ala_production",
        "COPY",
    ),
    runs_after(
        "docker service scale ala_api=2 && docker service scale ala_api=1",
        "docker stack rm ala",
        "Removing service ala_api",
    ),
    runs_after(
        "for name in api frontend; do docker tag ala-$name:20241112-143000 ala-$name:latest; done",
        "docker stack deploy -c docker-stack.yml ala",
        "Creating service ala_api",
    ),
    runs("docker swarm leave --force", "Node left the swarm."),
    runs_after(
        "cp ~/backups/ala_db_LATEST.sql ~/backups/backup-pre-swarm-YYYYMMDD.sql",
        "cat ~/backups/backup-pre-swarm-YYYYMMDD.sql | docker exec -i ala-db psql -U ala_user -d ala_production",
        "COPY",
    ),
    runs("docker-compose up -d", "api"),
    host("sleep 30", SYSTEM),
    host("sleep 10", SYSTEM),
    host("free -h", SYSTEM),
    host("df -h", SYSTEM),
    host("ping ADDRESS", REMOTE),
    host("sudo systemctl status docker", SYSTEM),
    host("sudo systemctl restart docker", SYSTEM),
    runs("ls -lh ~/ala-improved/ssl-certs/certs/fullchain.crt", "fullchain.crt"),
    runs("ls -lh ~/ala-improved/ssl-certs/private/private.key", "private.key"),
];

/// docs/guide-coverage.md.
pub fn page() -> String {
    let mut text = String::from(
        "# The operations guide, line by line\n\n\
         Made by `cargo run -p xtask -- guide --write`; `make test` runs every line that runs, with the real docker client and\n\
         docker-compose against the embedded engine and the example application, and fails when this page is out of date.\n\n\
         | line of the guide | outcome |\n|---|---|\n",
    );
    for line in LINES {
        let shown = line.text.replace('|', "\\|");
        text.push_str(&format!("| `{shown}` | {} |\n", line.way.outcome()));
    }
    text
}
