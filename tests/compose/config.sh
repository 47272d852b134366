#!/usr/bin/env bash
# The compose files, as `docker compose config` reads them.  Needs the compose plugin, no engine.
#     bash tests/compose/config.sh
set -Eeuo pipefail
cd "$(dirname "$0")/../.."
docker compose version >/dev/null 2>&1 || { echo "config.sh: no docker compose plugin here" >&2; exit 3; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Neither the user's .env nor this shell's settings may decide the outcome.
grep -v '^COMPOSE_FILE=' .env.example >"$scratch/env"
clean=(env -i "PATH=$PATH" "HOME=${HOME:-/}")
passed=0
ok() { passed=$((passed + 1)); echo "ok: $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }

config() { # FILE... -> JSON on stdout
  local files=() file
  for file in "$@"; do files+=(-f "$file"); done
  "${clean[@]}" ${settings[@]+"${settings[@]}"} \
    docker compose --profile tools --profile observe --project-directory . --env-file "$scratch/env" "${files[@]}" config --format json
}

settings=()
if "${clean[@]}" docker compose --env-file /dev/null -f docker-compose.yml config >"$scratch/out" 2>&1; then
  fail "a start without .env must not work"
fi
grep -q 'is not set - run sh deploy/init.sh' "$scratch/out" || fail "a start without .env says nothing useful: $(cat "$scratch/out")"
ok "without .env: $(sed -n '1{s/.*required variable //;s/ is missing.*is not set/ is not set/;p}' "$scratch/out")"

config docker-compose.yml >"$scratch/cpu.json"
config docker-compose.yml docker-compose.gpu.yml >"$scratch/gpu.json"
if config docker-compose.yml docker-compose.tls.yml >"$scratch/out" 2>&1; then fail "TLS form without POSTGRES_BIND must not work"; fi
ok "TLS form without an address to listen on is refused"
settings=(POSTGRES_BIND=192.0.2.10 NKAT_DB_HOST=db.example.lan)
config docker-compose.yml docker-compose.tls.yml >"$scratch/tls.json"
config docker-compose.yml docker-compose.gpu.yml docker-compose.tls.yml >"$scratch/gpu-tls.json"
if config docker-compose.yml docker-compose.proxy.yml >"$scratch/out" 2>&1; then fail "proxy form without a name must not work"; fi
settings+=(DASHBOARD_HOST=search.example.lan PROXY_BIND=192.0.2.10 NKAT_WORKERS=3)
config docker-compose.yml docker-compose.proxy.yml >"$scratch/proxy.json"
config docker-compose.worker.yml >"$scratch/worker.json"
config docker-compose.worker.yml docker-compose.worker-gpu.yml >"$scratch/worker-gpu.json"
ok "every form of the files parses"

python3 - "$scratch" <<'PY'
import ipaddress, json, pathlib, sys

folder = pathlib.Path(sys.argv[1])
whole = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
form = {name: config["services"] for name, config in whole.items()}
OURS = {"migrate", "orchestrator", "dashboard", "worker", "tools"}
OBSERVE = {"prometheus", "grafana"}
SERVICES = OURS - {"migrate", "tools"}

def check(condition, what):
    if not condition:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}")

cpu = form["cpu"]
check(set(cpu) == OURS | OBSERVE | {"postgres"}, "five services, tools, and two that observe")
check({n: s["profiles"] for n, s in cpu.items() if "profiles" in s}
      == {"tools": ["tools"], "prometheus": ["observe"], "grafana": ["observe"]},
      "tools and observers are not started by a plain up")
check(len({cpu[name]["image"] for name in OURS}) == 1, "one image for all services of ours")
check("ports" not in cpu["postgres"], "Postgres is not published")
check([p["host_ip"] for p in cpu["dashboard"]["ports"]] == ["127.0.0.1"],
      "the dashboard listens on 127.0.0.1")
check(cpu["dashboard"]["environment"]["NKAT_DASHBOARD_EDITABLE"] == "0", "and is read-only")
check(all(not key.endswith("PASSWORD") for s in cpu.values() for key in s.get("environment", {})),
      "no password in the environment")
for name in sorted(OURS):
    service = cpu[name]
    rights = (service["read_only"], service["init"], service["cap_drop"], service["user"][-2:])
    check(rights == (True, True, ["ALL"], ":0") and service["user"][:2] != "0:",
          f"{name}: read-only root, init, no capabilities, not root")
for name in sorted(SERVICES | {"postgres"}):
    check("healthcheck" in cpu[name] and "stop_grace_period" in cpu[name],
          f"{name}: health check and grace period")
for name in sorted(SERVICES):
    check(cpu[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully",
          f"{name} waits for migrate")
for name, service in sorted(cpu.items()):
    check(int(service["mem_limit"]) > 0 and service["pids_limit"] > 0 and "no-new-privileges:true"
          in service["security_opt"], f"{name}: limits of memory and processes")
check(set(cpu["tools"]["depends_on"]) == {"postgres"}, "tools: migrate does not run again")
mounted = {volume["target"]: volume.get("read_only", False) for volume in cpu["tools"]["volumes"]}
check(mounted.items() >= {"/out": False, "/data": True, "/var/cache/nkat": False}.items(),
      "tools: results, data and a cache to write to")
check([p["host_ip"] for n in OBSERVE for p in cpu[n]["ports"]] == ["127.0.0.1"] * 2,
      "Prometheus and Grafana listen on 127.0.0.1")
files = [volume["source"] for n in OBSERVE for volume in cpu[n]["volumes"] if volume["type"] == "bind"]
check(files and all(pathlib.Path(file).exists() for file in files), "and all their files are there")
check("nkat_worker@" in cpu["worker"]["environment"]["NKAT_STORAGE"]
      and [s["source"] for s in cpu["worker"]["secrets"]] == ["worker_password"],
      "workers come with a password of their own")
check(cpu["worker"]["deploy"]["replicas"] == 1 and form["proxy"]["worker"]["deploy"]["replicas"] == 3,
      "NKAT_WORKERS says how many")
proxy = form["proxy"]["proxy"]["networks"]["proxy"]["ipv4_address"]
check(form["proxy"]["dashboard"]["environment"]["NKAT_DASHBOARD_TRUSTED_PROXY"] == proxy,
      "proxy form: its address is the one that the dashboard believes")
own = form["proxy"]["dashboard"]["networks"]["proxy"].get("ipv4_address")
check(own not in (None, proxy), "and the dashboard, which starts first, cannot be given it")
check("container_name" not in cpu["worker"] and "ports" not in cpu["worker"], "workers can be scaled")
check(cpu["migrate"]["command"][-1] == "/app/configs/laptop.yaml", "CPU form: laptop.yaml")

(device,) = form["gpu"]["tools"]["deploy"]["resources"]["reservations"]["devices"]
check(device["driver"] == "nvidia", "gpu: tools get GPUs")
for name in ("gpu", "gpu-tls", "worker-gpu"):
    (device,) = form[name]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    check(device["driver"] == "nvidia" and device["capabilities"] == ["gpu"], f"{name}: workers get GPUs")
check(form["gpu"]["migrate"]["command"][-1] == "/app/configs/search.yaml", "GPU form: search.yaml")
check(form["gpu"]["worker"]["environment"]["NKAT_STORAGE"] == cpu["worker"]["environment"]["NKAT_STORAGE"],
      "GPU form keeps the rest of the environment")
check([p["host_ip"] for p in form["tls"]["postgres"]["ports"]] == ["192.0.2.10"],
      "TLS form: Postgres on the one address given")
fixed = [ipaddress.ip_network(pool["subnet"]) for name in ("tls", "proxy")
         for network in whole[name]["networks"].values()
         for pool in network.get("ipam", {}).get("config", [])]
handed_out = [ipaddress.ip_network(pool) for pool in ("172.16.0.0/12", "192.168.0.0/16")]
check(len(fixed) == 2 and not any(one.overlaps(other) for one in fixed for other in handed_out),
      "fixed networks lie where the engine puts no other")
check(set(form["worker"]) == {"worker"}, "another host runs workers only")
check("sslmode=verify-full" in form["worker"]["worker"]["environment"]["NKAT_STORAGE"],
      "and checks the certificate")
PY
echo "config.sh: the compose files are as they should be"
