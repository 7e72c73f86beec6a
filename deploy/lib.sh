# What the scripts beside this file share: settings, checks, and the way of a change set.
#
#   STACK        name of the service's stack; the network's is STACK-network   [gossipykv]
#   ENVIRONMENT  folder under cloudformation/parameters                        [default]
#   VPC_ID, PUBLIC_SUBNET_IDS, PRIVATE_SUBNET_IDS
#                an existing VPC, subnets separated by commas; no network stack then
#   POLL_SECONDS between two looks at a stack                                  [4]
#   NETWORK_TEMPLATE, SERVICE_TEMPLATE                                         [cloudformation/*.yaml]
#
# Exit codes: 0 done or nothing to do, 1 it failed, 2 something is missing or wrong on this side.

set -eu
ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
STACK=${STACK:-gossipykv}
NETWORK_STACK=$STACK-network
ENVIRONMENT=${ENVIRONMENT:-default}
PARAMETERS=$ROOT/cloudformation/parameters/$ENVIRONMENT
NETWORK_TEMPLATE=${NETWORK_TEMPLATE:-$ROOT/cloudformation/network.yaml}
SERVICE_TEMPLATE=${SERVICE_TEMPLATE:-$ROOT/cloudformation/service.yaml}
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
    [ -d "$PARAMETERS" ] || missing "ENVIRONMENT=$ENVIRONMENT: there is no folder $PARAMETERS"
    if [ -z "${AWS_REGION:-}${AWS_DEFAULT_REGION:-}" ] && ! aws configure get region >/dev/null 2>&1; then
        missing "no AWS region: set AWS_REGION or run aws configure"
    fi
    # The CLI of version 1 knows only the second of the two.
    [ -z "${AWS_REGION:-}" ] || export AWS_DEFAULT_REGION="$AWS_REGION"
    # shellcheck disable=SC2034  # for the scripts that include this file
    if ! ACCOUNT=$(call sts get-caller-identity --query Account --output text); then
        case $(reason) in
        *ocate\ credentials*) missing "no AWS credentials: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run aws configure" ;;
        *) missing "AWS does not know these credentials: $(reason)" ;;
        esac
    fi
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

# Output $2 of stack $1, or nothing.
stack_output() {
    call cloudformation describe-stacks --stack-name "$1" --output text \
        --query "(Stacks[0].Outputs || \`[]\`)[?OutputKey=='$2'].OutputValue | [0] || ''" || fail "stack $1 cannot be read: $(reason)"
}

# Parameters as JSON: the lines Key=Value of file $1, then the arguments; of two, the later counts.
parameters() {
    file=$1
    shift
    { cat "$file"; echo; printf '%s\n' "$@"; } | awk '
        /^[[:space:]]*(#|$)/ { next }
        !/=/ { print FILENAME ": not Key=Value: " $0 > "/dev/stderr"; exit 1 }
        {
            key = substr($0, 1, index($0, "=") - 1); value = substr($0, index($0, "=") + 1)
            gsub(/\\/, "\\\\", value); gsub(/"/, "\\\"", value)
            if (!(key in values)) order[++n] = key
            values[key] = value
        }
        END {
            printf "["
            for (i = 1; i <= n; i++)
                printf "%s{\"ParameterKey\":\"%s\",\"ParameterValue\":\"%s\"}", (i > 1 ? "," : ""), order[i], values[order[i]]
            print "]"
        }'
}

# Makes a change set for stack $1 from template $2 and parameters $3 (JSON). Sets CHANGE_SET (its
# ARN), STACK_ID and CHANGE_TYPE; CHANGE_SET is empty when there is nothing to change.
change_set() {
    stack=$1 template=$2 values=$3
    status=$(stack_status "$stack")
    case $status in
    ABSENT | REVIEW_IN_PROGRESS) CHANGE_TYPE=CREATE ;;
    ROLLBACK_COMPLETE | ROLLBACK_FAILED | CREATE_FAILED | DELETE_FAILED)
        fail "stack $stack is $status, which only deleting it ends: make destroy" ;;
    UPDATE_ROLLBACK_FAILED)
        fail "stack $stack is $status: aws cloudformation continue-update-rollback --stack-name $stack" ;;
    *_IN_PROGRESS) fail "stack $stack is $status: wait until it is done" ;;
    *) CHANGE_TYPE=UPDATE ;;
    esac
    MADE_STACK=
    [ "$status" != ABSENT ] || MADE_STACK=$stack
    printf '%s' "$values" >"$WORK/parameters.json"
    set -- --stack-name "$stack" --change-set-type "$CHANGE_TYPE" --change-set-name "make-$(date +%s)-$$" \
        --template-body "file://$template" --parameters "file://$WORK/parameters.json" \
        --capabilities CAPABILITY_IAM --tags "Key=application,Value=gossipykv" \
        --query '[Id, StackId]' --output text
    # A stack that never came up is of no use; what failed is still told by its events.
    [ "$CHANGE_TYPE" = UPDATE ] || set -- "$@" --on-stack-failure DELETE
    [ -z "${DRIFT:-}" ] || [ "$CHANGE_TYPE" = CREATE ] || set -- "$@" --deployment-mode REVERT_DRIFT
    ids=$(call cloudformation create-change-set "$@") || {
        why=$(reason)
        drop_review_stack
        fail "stack $stack: $why"
    }
    CHANGE_SET=$(printf '%s' "$ids" | cut -f1) STACK_ID=$(printf '%s' "$ids" | cut -f2)
    while :; do
        state=$(call cloudformation describe-change-set --change-set-name "$CHANGE_SET" \
            --query '[Status, StatusReason]' --output text) || fail "change set of $stack: $(reason)"
        case $state in
        CREATE_COMPLETE*) return ;;
        FAILED*"didn't contain changes"* | FAILED*"No updates are to be performed"*)
            drop_change_set
            CHANGE_SET=
            return
            ;;
        FAILED*)
            drop_change_set
            fail "stack $stack: $(printf '%s' "$state" | cut -f2-)"
            ;;
        esac
        sleep "$POLL_SECONDS"
    done
}

# Deletes the change set, and the empty stack that was made only to hold it.
drop_change_set() {
    [ -z "${CHANGE_SET:-}" ] || call cloudformation delete-change-set --change-set-name "$CHANGE_SET" || true
    drop_review_stack
}
drop_review_stack() {
    [ -n "${MADE_STACK:-}" ] || return 0
    [ "$(stack_status "$MADE_STACK")" != REVIEW_IN_PROGRESS ] ||
        call cloudformation delete-stack --stack-name "$MADE_STACK" || true
    MADE_STACK=
}

# Prints what the change set would do, property by property, and what it would replace.
show_changes() {
    call cloudformation describe-change-set --change-set-name "$CHANGE_SET" --output text \
        --query 'Changes[].ResourceChange.[Action, LogicalResourceId, ResourceType, Replacement]' \
        >"$WORK/changes" || fail "$(reason)"
    if [ ! -s "$WORK/changes" ]; then
        say "  nothing but outputs or tags"
    fi
    replaced=
    while IFS="$(printf '\t')" read -r action id type replacement; do
        case $action/$replacement in
        Add/*) mark=+ color=$GREEN note= ;;
        Remove/*) mark=- color=$RED note= ;;
        */True) mark='!' color=$RED note=' REPLACED' ;;
        */Conditional) mark='!' color=$YELLOW note=' may be replaced' ;;
        *) mark='~' color=$YELLOW note= ;;
        esac
        # A task definition is never changed, only followed by another.
        [ "$type/$replacement" != AWS::ECS::TaskDefinition/True ] || mark='~' color=$YELLOW note=' new revision'
        say "  $color$mark $action $id ($type)$note$PLAIN"
        [ "$mark" != '!' ] || replaced="$replaced $id"
        [ "$action" = Modify ] || continue
        properties "$id"
    done <"$WORK/changes"
    [ -z "$replaced" ] || say "  ${RED}replaced, with what they hold and their addresses:$replaced$PLAIN"
}

# The properties of resource $1 that change: before, after, and whether they force a replacement.
properties() {
    call cloudformation describe-change-set --change-set-name "$CHANGE_SET" --include-property-values --output text \
        --query "Changes[?ResourceChange.LogicalResourceId=='$1'].ResourceChange.Details[].Target.[Path || Name || Attribute, BeforeValue, AfterValue, RequiresRecreation]" \
        >"$WORK/properties" </dev/null || fail "$(reason)"
    sort -u "$WORK/properties" | awk -F '\t' 'NF >= 4 {
        sub(/^\/Properties\//, "", $1)
        if ($2 == "None") $2 = "(absent)"
        if ($3 == "None") $3 = "(absent)"
        printf "      %s: %s -> %s%s\n", $1, $2, $3, ($4 == "Always" ? "  [forces replacement]" : "")
    }'
}

# The parameters of both templates.
network_parameters() { parameters "$PARAMETERS/network.params"; }
service_parameters() {
    parameters "$PARAMETERS/service.params" "VpcId=$VPC_ID" "PublicSubnetIds=$PUBLIC_SUBNET_IDS" \
        "PrivateSubnetIds=$PRIVATE_SUBNET_IDS" "ImageUri=$IMAGE_URI" ${COUNT:+"DesiredCount=$COUNT"}
}

# Takes the VPC from the network stack unless one is given.
find_network() {
    if [ -n "${VPC_ID:-}" ]; then
        : "${PUBLIC_SUBNET_IDS:=}" "${PRIVATE_SUBNET_IDS:=}"
        case /$PUBLIC_SUBNET_IDS/$PRIVATE_SUBNET_IDS/ in
        *//*) missing "VPC_ID is given: PUBLIC_SUBNET_IDS and PRIVATE_SUBNET_IDS are needed too" ;;
        esac
        return
    fi
    VPC_ID=$(stack_output "$NETWORK_STACK" VpcId)
    PUBLIC_SUBNET_IDS=$(stack_output "$NETWORK_STACK" PublicSubnetIds)
    PRIVATE_SUBNET_IDS=$(stack_output "$NETWORK_STACK" PrivateSubnetIds)
}

# Sets COUNT to the tasks that autoscaling wants now, so that a deployment does not undo it.
find_count() {
    COUNT=
    [ "$(stack_status "$STACK")" != ABSENT ] || return 0
    cluster=$(stack_output "$STACK" ClusterName)
    service=$(stack_output "$STACK" ServiceName)
    [ -n "$cluster" ] && [ -n "$service" ] || return 0
    COUNT=$(call ecs describe-services --cluster "$cluster" --services "$service" \
        --query 'services[0].desiredCount' --output text) || COUNT=
    case $COUNT in *[!0-9]* | 0 | 1) COUNT= ;; esac
}

# Prints each new event of the stack until it rests, then its status in STATUS. $1: the last event
# already known.
watch_stack() {
    known=$1
    while :; do
        STATUS=$(stack_status "$STACK_ID")
        call cloudformation describe-stack-events --stack-name "$STACK_ID" --output text --max-items 200 \
            --query 'StackEvents[].[EventId, Timestamp, ResourceStatus, LogicalResourceId, ResourceType, ResourceStatusReason]' \
            >"$WORK/events" || fail "$(reason)"
        awk -F '\t' -v known="$known" '$1 == known { exit } NF >= 5' "$WORK/events" >"$WORK/new"
        newest=$(head -n 1 "$WORK/new" | cut -f1)
        [ -z "$newest" ] || known=$newest
        awk '{ line[NR] = $0 } END { for (i = NR; i > 0; i--) print line[i] }' "$WORK/new" | tee -a "$WORK/all" |
            awk -F '\t' -v red="$RED" -v plain="$PLAIN" '{
                bad = $3 ~ /FAILED|ROLLBACK/
                printf "  %s  %s%-28s%s %s%s\n", substr($2, 12, 8), (bad ? red : ""), $3, (bad ? plain : ""), $4,
                    ($6 != "" && $6 != "None" ? ": " $6 : "")
            }'
        case $STATUS in
        *_IN_PROGRESS) sleep "$POLL_SECONDS" ;;
        *) return ;;
        esac
    done
}
last_event() {
    call cloudformation describe-stack-events --stack-name "$1" --output text --max-items 1 \
        --query 'StackEvents[0].EventId' | head -n 1 || true
}
