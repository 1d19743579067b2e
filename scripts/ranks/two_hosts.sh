# To be sourced: the script that does so goes on in host-a, and beside it there is host-b. They are network
# namespaces with a name and an address each, and a cable, an interface of that name on both. on_b COMMAND...
# runs a command there; mpirun_both RANKS_BY_HOST COMMAND... runs two ranks, on_b's with $ENVIRONMENT_OF_B,
# NAME=VALUE. Exits with 77 where nobody may make namespaces, or without mpirun.
if [[ ${1:-} != --in-host-a ]]; then
  if ! command -v mpirun >/dev/null; then
    echo "$(basename "$0"): skipped: no mpirun here (openmpi-bin)" >&2
    exit 77
  elif ! unshare --net --uts ip link set lo up 2>/dev/null; then
    echo "$(basename "$0"): skipped: network namespaces need root (CAP_SYS_ADMIN) and ip (iproute2)" >&2
    exit 77
  fi
  # The namespaces go with the last of their processes, and all of these with the first.
  exec unshare --net --uts --pid --fork --kill-child --mount-proc "$0" --in-host-a "$@"
fi
shift
address_of_a=10.77.0.1
address_of_b=10.77.0.2
hosts_folder=$(mktemp -d)
trap 'rm -rf "$hosts_folder"' EXIT

unshare --net --uts sleep infinity &
export HOST_B=$!
on_b() { nsenter --target "$HOST_B" --net --uts -- "$@"; }
until [[ $(readlink "/proc/$HOST_B/ns/net") != $(readlink /proc/self/ns/net) ]]; do sleep 0.01; done
hostname host-a
on_b hostname host-b
ip link add cable type veth peer name cable netns "$HOST_B"
ip address add $address_of_a/24 dev cable
on_b ip address add $address_of_b/24 dev cable
for host in '' on_b; do
  $host ip link set lo up
  $host ip link set cable up
done

# What mpirun starts on another host with, in place of ssh: HOST COMMAND...
cat >"$hosts_folder/enter" <<'END'
#!/bin/sh
shift
exec nsenter --target "$HOST_B" --net --uts -- env $ENVIRONMENT_OF_B sh -c "$*"
END
chmod +x "$hosts_folder/enter"
export ENVIRONMENT_OF_B=''

mpirun_both() {
  local hosts=$1
  shift
  timeout 300 mpirun --allow-run-as-root --host "$hosts" --bind-to none -n 2 --mca plm_rsh_agent "$hosts_folder/enter" \
    --mca oob_tcp_if_include cable --mca btl_tcp_if_include cable --mca btl_vader_single_copy_mechanism none "$@"
}
one_host=$address_of_a:2
both_hosts=$address_of_a:1,$address_of_b:1
