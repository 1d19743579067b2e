# Sourced by data/fetch_*.sh: downloads that can be stopped and started again, and are checked. A file
# under its own name is whole; until then it is NAME.partial, from which the next start goes on.
#
# LATHE_DATA_MIRROR=http://mirror/path takes https://huggingface.co/x from
# http://mirror/path/huggingface.co/x.

fetch_attempts=5
: "${fetch_wait:=1}"  # seconds before the second attempt, doubled before each further one

fetch_fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

fetch_bytes() { stat -c %s "$1" 2>/dev/null || echo 0; }

# curl, with what went wrong in fetch_reason, as one line, and the server's answer in fetch_code.
fetch_curl() {
  local said code=0
  said=$(curl --location --fail --show-error --silent --connect-timeout 20 --speed-limit 1000 \
    --speed-time 60 --write-out '%{stderr}\n%{http_code}' "$@" 2>&1) || code=$?
  fetch_code=${said##*$'\n'}
  fetch_reason=$(sed -n 's/^curl: ([0-9]*) //p' <<<"$said" | tail -1)
  return "$code"
}

# What the server says about an address: remote_bytes and remote_sha256, "" where it says nothing. The
# Hugging Face Hub gives the sum of large files in X-Linked-ETag.
fetch_describe() {
  local headers
  headers=$(mktemp)
  if ! fetch_curl --head --retry 3 --output "$headers" "$1"; then
    rm -f "$headers"
    case $fetch_code in
      000) fetch_fail "no network, or none to $1: $fetch_reason" ;;
      *) fetch_fail "$1: the server answers $fetch_code" ;;
    esac
  fi
  # Of the last answer only: those that redirect have a length of their own.
  remote_bytes=$(tr -d '\r' <"$headers" | sed -n 'H; /^HTTP\//h; ${x; p}' |
    sed -n 's/^content-length: *\([0-9]*\)$/\1/Ip' | tail -1)
  remote_sha256=$(tr -d '\r' <"$headers" |
    sed -n 's/^x-linked-etag: *"\([0-9a-f]\{64\}\)"$/\1/Ip' | tail -1)
  rm -f "$headers"
}

# Everything of an address into a file, going on with what is there.
fetch_rest() {
  local url=$1 path=$2 attempt code wait=$fetch_wait
  for ((attempt = 1; attempt <= fetch_attempts; ++attempt)); do
    [[ -n $remote_bytes && -e $path && $(fetch_bytes "$path") -eq $remote_bytes ]] && return
    [[ -n $remote_bytes && $(fetch_bytes "$path") -gt $remote_bytes ]] && rm "$path"
    code=0
    fetch_curl --continue-at - --output "$path" "$url" || code=$?
    [[ $code -eq 0 ]] && return
    case $code:$fetch_code in
      33:* | 36:* | *:416) rm -f "$path" ;;  # the server has no parts of files, or not this one
      23:*) fetch_fail "$path: cannot be written: $fetch_reason" ;;
      22:408 | 22:429) ;;
      22:4*) fetch_fail "$url: the server answers $fetch_code" ;;
    esac
    [[ $attempt -lt $fetch_attempts ]] && sleep "$wait"
    wait=$((2 * wait))
  done
  fetch_fail "$url: $fetch_attempts attempts failed, the last at byte $(fetch_bytes "$path"):" \
    "$fetch_reason; the next start goes on there"
}

# fetch ADDRESS PATH [SHA256 [CHECK]]: CHECK is a command that is given the file, and says on stdout
# what is wrong with it. Nothing is done when the file is there and passes CHECK.
fetch() {
  local url=$1 path=$2 sha256=${3:-} check=${4:-true} found problem
  if [[ -e $path ]]; then
    problem=$("$check" "$path")
    [[ -z $problem ]] || fetch_fail "$path: $problem; remove it to fetch it again"
    echo "$path: is there"
    return
  fi
  command -v curl >/dev/null || fetch_fail "needs curl; as root: apt-get install curl ca-certificates"
  [[ -z ${LATHE_DATA_MIRROR:-} ]] || url=${LATHE_DATA_MIRROR%/}/${url#https://}
  mkdir -p "$(dirname "$path")"
  fetch_describe "$url"
  echo "$path: fetching ${remote_bytes:-unknown} bytes of $url"
  fetch_rest "$url" "$path.partial"
  sha256=${sha256:-$remote_sha256}
  found=$(fetch_bytes "$path.partial")
  problem=
  if [[ -n $remote_bytes && $found -ne $remote_bytes ]]; then
    problem="has $found bytes, must have $remote_bytes"
  elif [[ -n $sha256 ]]; then
    found=$(sha256sum "$path.partial" | cut -d' ' -f1)
    [[ $found == "$sha256" ]] || problem="sha256 is $found, must be $sha256"
  fi
  problem=${problem:-$("$check" "$path.partial")}
  if [[ -n $problem ]]; then
    rm "$path.partial"
    fetch_fail "$url: $problem; what was fetched is removed"
  fi
  sync "$path.partial"
  mv "$path.partial" "$path"
  echo "$path: fetched"
}

# CHECK of fetch: the file of an llm.c format is as long as its header says.
check_token_shard() {
  local magic version tokens
  read -r magic version tokens < <(od -An -td4 -N12 "$1" | tr '\n' ' ')
  if [[ $magic != 20240520 || $version != 1 ]]; then
    echo "is no token shard (magic $magic, version $version)"
  elif [[ $(fetch_bytes "$1") -ne $((1024 + 2 * tokens)) ]]; then
    echo "has $(fetch_bytes "$1") bytes, its header says $((1024 + 2 * tokens))"
  fi
}

check_evaluation_file() {
  local magic version
  read -r magic version < <(od -An -td4 -N8 "$1")
  [[ $magic == 20240522 && $version == 1 ]] ||
    echo "is no evaluation file (magic $magic, version $version)"
}
