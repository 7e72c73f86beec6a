# What a stack does, and what its tasks say of it.

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

# Prints why tasks of stack $1 have stopped and what they logged last.
tell_tasks() {
    cluster=$(stack_resource "$1" Cluster)
    [ -n "$cluster" ] || return 0
    tasks=$(call ecs list-tasks --cluster "$cluster" --desired-status STOPPED --max-items 5 \
        --query 'taskArns[]' --output text | grep arn: || true)
    if [ -z "$tasks" ]; then
        say "  no task has stopped"
        return
    fi
    # shellcheck disable=SC2086  # a list of names
    call ecs describe-tasks --cluster "$cluster" --tasks $tasks --output text \
        --query "tasks[].[taskArn, stoppedReason || '-', containers[0].reason || '-', to_string(containers[0].exitCode)]" \
        >"$WORK/tasks" || return 0
    group=$(stack_resource "$1" LogGroup)
    while IFS="$(printf '\t')" read -r task why container code; do
        say "  stopped task ${task##*/}: $why"
        [ "$container" = - ] || say "    container: $container"
        [ "$code" = null ] || say "    exit code $code"
        [ -n "$group" ] || continue
        call logs get-log-events --log-group-name "$group" --log-stream-name "node/gossipykv/${task##*/}" \
            --limit 10 --query 'events[].[message]' --output text >"$WORK/log" </dev/null || continue
        sed 's/^/    | /' "$WORK/log"
    done <"$WORK/tasks"
}

# Lets the load balancer of stack $1 be deleted.
unprotect() {
    balancer=$(stack_resource "$1" LoadBalancer)
    [ -z "$balancer" ] || call elbv2 modify-load-balancer-attributes --load-balancer-arn "$balancer" \
        --attributes Key=deletion_protection.enabled,Value=false >/dev/null || true
}

# Deletes the bucket that a first try has left, for its stack keeps it. S3 does when it is empty.
drop_bucket() {
    [ -n "$bucket" ] || return 0
    ! call s3api delete-bucket --bucket "$bucket" >/dev/null || return 0
    case $(reason) in
    *NoSuchBucket*) ;;
    *) say "  its bucket stays: $(reason)" ;;
    esac
}

# Deletes what a first deployment has left of stack $1. It has never served anybody.
remove_try() {
    say "  removing what is left of a first try"
    STACK_ID=$(call cloudformation describe-stacks --stack-name "$1" --query 'Stacks[0].StackId' --output text) ||
        fail "$(reason)"
    unprotect "$1"
    bucket=$(stack_resource "$1" Bucket)
    known=$(last_event "$STACK_ID")
    call cloudformation delete-stack --stack-name "$1" || fail "  $(reason)"
    watch_stack "$known"
    case $STATUS in
    DELETE_COMPLETE | ABSENT) drop_bucket ;;
    *) fail "stack $1 is $STATUS: docs/runbook.md tells the way out" ;;
    esac
}
