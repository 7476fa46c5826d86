//! Rows for `deploy`.

use super::{Key, ignored, ok};

pub const KEYS: &[Key] = &[
    ok(
        "services.*.deploy.mode",
        "`replicated`, `global`, `replicated-job` (`replicas` completions, all at once) or \
         `global-job`; a job is live when it has completed, and runs again when it has changed",
    ),
    ok("services.*.deploy.replicas", "default 1"),
    ok("services.*.deploy.labels", "labels of the service; a change replaces no task"),
    ok("services.*.deploy.endpoint_mode", "`vip` or `dnsrr`"),
    ok("services.*.deploy.update_config", ""),
    ok("services.*.deploy.update_config.parallelism", "default 1; 0 is all at once"),
    ok("services.*.deploy.update_config.delay", "default 0s"),
    ok(
        "services.*.deploy.update_config.failure_action",
        "`pause` (default), `continue` or `rollback`",
    ),
    ok("services.*.deploy.update_config.monitor", "default 5s; `0s` is none"),
    ok("services.*.deploy.update_config.max_failure_ratio", "0 to 1, default 0"),
    ok("services.*.deploy.update_config.order", "`stop-first` (default) or `start-first`"),
    ok("services.*.deploy.rollback_config", ""),
    ok("services.*.deploy.rollback_config.parallelism", "default 1; 0 is all at once"),
    ok("services.*.deploy.rollback_config.delay", "default 0s"),
    ok("services.*.deploy.rollback_config.failure_action", "`pause` (default) or `continue`"),
    ok("services.*.deploy.rollback_config.monitor", "default 5s; `0s` is none"),
    ok("services.*.deploy.rollback_config.max_failure_ratio", "0 to 1, default 0"),
    ok("services.*.deploy.rollback_config.order", "`stop-first` (default) or `start-first`"),
    ok("services.*.deploy.restart_policy", ""),
    ok("services.*.deploy.restart_policy.condition", "`any` (default), `on-failure` or `none`"),
    ok("services.*.deploy.restart_policy.delay", "default 5s"),
    ok("services.*.deploy.restart_policy.max_attempts", "default: no limit"),
    ok("services.*.deploy.restart_policy.window", "failures within this count as attempts"),
    ok("services.*.deploy.resources", ""),
    ok(
        "services.*.deploy.resources.limits",
        "refused by an embedded engine on a machine that cannot keep them: docs/limits.md",
    ),
    ok("services.*.deploy.resources.limits.cpus", ""),
    ok("services.*.deploy.resources.limits.memory", "at least 4 MiB"),
    ok("services.*.deploy.resources.limits.pids", "threads count"),
    ok("services.*.deploy.resources.reservations", ""),
    ok("services.*.deploy.resources.reservations.cpus", ""),
    ok("services.*.deploy.resources.reservations.memory", ""),
    ok("services.*.deploy.resources.reservations.generic_resources", ""),
    ok("services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec", ""),
    ok(
        "services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec.kind",
        "",
    ),
    ok(
        "services.*.deploy.resources.reservations.generic_resources[].discrete_resource_spec.value",
        "",
    ),
    ignored("services.*.deploy.resources.reservations.devices", "use `generic_resources`"),
    ok("services.*.deploy.placement", ""),
    ok("services.*.deploy.placement.constraints", ""),
    ok("services.*.deploy.placement.preferences", ""),
    ok("services.*.deploy.placement.preferences[].spread", ""),
    ok("services.*.deploy.placement.max_replicas_per_node", ""),
];
