# What the scripts beside this file share: settings, checks, and short forms of AWS calls.
#
#   STACK        name of the service's stack; STACK-network is the network's, STACK-backup the backups'
#                [gossipykv; gossipykv-ENVIRONMENT for another environment than default]
#   ENVIRONMENT  folder under cloudformation/parameters      [the stack's; of a new one default]
#   VPC_ID, PUBLIC_SUBNET_IDS, PRIVATE_SUBNET_IDS
#                an existing VPC, subnets separated by commas; no network stack then [the stack's]
#   SET          further parameters of the templates, as "Key=Value Key=Value"
#   TAGS         further tags of all resources, as "Key=Value Key=Value"       [the stack's]
#   POLL_SECONDS between two looks at a stack                                  [4]
#   NETWORK_TEMPLATE, SERVICE_TEMPLATE, BACKUP_TEMPLATE                        [cloudformation/*.yaml]
#
# remember.sh tells what is taken from a stack that exists.
#
# Exit codes: 0 done or nothing to do, 1 it failed, 2 something is missing or wrong on this side.

# shellcheck disable=SC2034  # half of what is set here is for the scripts that include this file

set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# The name carries the environment: two environments are never one stack by accident.
case ${ENVIRONMENT:=}/${STACK:=} in
/ | default/) STACK=gossipykv ;;
*/) STACK=gossipykv-$ENVIRONMENT ;;
esac
NETWORK_STACK=$STACK-network
BACKUP_STACK=$STACK-backup
PARAMETERS=$ROOT/cloudformation/parameters/${ENVIRONMENT:-default}
NETWORK_TEMPLATE=${NETWORK_TEMPLATE:-$ROOT/cloudformation/network.yaml}
SERVICE_TEMPLATE=${SERVICE_TEMPLATE:-$ROOT/cloudformation/service.yaml}
BACKUP_TEMPLATE=${BACKUP_TEMPLATE:-$ROOT/cloudformation/backup.yaml}
# The target that is named where something is left to do, and what ends a stack that cannot be changed.
TARGET=deploy
UNDO='make destroy'
POLL_SECONDS=${POLL_SECONDS:-4}
export AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off

WORK=$(mktemp -d)
CLEANUP=
finish() {
    code=$?
    trap - EXIT INT TERM
    [ -z "$CLEANUP" ] || $CLEANUP || true
    rm -rf "$WORK"
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    RED=$(printf '\033[1;31m') YELLOW=$(printf '\033[33m') GREEN=$(printf '\033[32m') PLAIN=$(printf '\033[0m')
else
    RED='' YELLOW='' GREEN='' PLAIN=''
fi

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }
missing() { printf '%s\n' "$*" >&2; exit 2; }

# aws, its last word on standard error kept for `reason`.
call() { aws "$@" 2>"$WORK/error"; }
reason() { grep -v '^$' "$WORK/error" | tail -n 1; }

need_aws() {
    command -v aws >/dev/null || missing "aws is missing: install the AWS CLI (Debian: awscli, PyPI: awscli)"
    if [ -z "${AWS_REGION:-}${AWS_DEFAULT_REGION:-}" ] && ! aws configure get region >/dev/null 2>&1; then
        missing "no AWS region: set AWS_REGION or run aws configure"
    fi
    # The CLI of version 1 knows only the second of the two.
    [ -z "${AWS_REGION:-}" ] || export AWS_DEFAULT_REGION="$AWS_REGION"
    if ! identity=$(call sts get-caller-identity --query '[Account, Arn]' --output text); then
        case $(reason) in
        *ocate\ credentials*) missing "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run aws configure" ;;
        *) missing "AWS does not know these credentials: $(reason)" ;;
        esac
    fi
    ACCOUNT=$(printf '%s' "$identity" | cut -f1) PARTITION=$(printf '%s' "$identity" | cut -d : -f2)
    REGION=${AWS_DEFAULT_REGION:-$(call configure get region || true)}
    WHERE="account $ACCOUNT, region $REGION"
}
need_folder() {
    [ -z "$ENVIRONMENT" ] || [ -d "$PARAMETERS" ] || missing "ENVIRONMENT=$ENVIRONMENT: there is no folder $PARAMETERS"
}

# Says $1 and asks for the answer $2 on a terminal; without one, or with another answer, it fails.
asked() {
    [ -t 0 ] || return 1
    printf '%s' "$1"
    read -r answer
    [ "$answer" = "$2" ]
}

# The status of stack $1, or ABSENT.
stack_status() {
    if call cloudformation describe-stacks --stack-name "$1" --query 'Stacks[0].StackStatus' --output text; then
        return
    fi
    case $(reason) in
    *"does not exist"*) echo ABSENT ;;
    *) fail "stack $1 cannot be read: $(reason)" ;;
    esac
}

# Looks at stack $1, once; what follows tells what was seen then.
read_stack() {
    if call cloudformation describe-stacks --stack-name "$1" --output text --query "Stacks[0].[
        [['status', StackStatus, to_string(EnableTerminationProtection)]],
        (Parameters || \`[]\`)[].['parameter', ParameterKey, ParameterValue || ''],
        (Outputs || \`[]\`)[].['output', OutputKey, OutputValue || ''],
        (Tags || \`[]\`)[].['tag', Key, Value || '']][]" >"$WORK/stack-$1"; then
        return
    fi
    case $(reason) in
    *"does not exist"*) printf 'status\tABSENT\tfalse\n' >"$WORK/stack-$1" ;;
    *) fail "stack $1 cannot be read: $(reason)" ;;
    esac
}
seen() { awk -F '\t' -v what="$2" -v key="$3" '$1 == what && (key == "" || $2 == key)' "$WORK/stack-$1"; }
seen_status() { seen "$1" status '' | cut -f 2; }
stack_parameter() { seen "$1" parameter "$2" | cut -f 3; }
stack_output() { seen "$1" output "$2" | cut -f 3; }
stack_tag() { seen "$1" tag "$2" | cut -f 3; }

# The name or ARN that AWS has given to resource $2 of stack $1, or nothing.
stack_resource() {
    call cloudformation describe-stack-resource --stack-name "$1" --logical-resource-id "$2" \
        --query "StackResourceDetail.PhysicalResourceId || ''" --output text || true
}
