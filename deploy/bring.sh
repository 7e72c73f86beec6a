# How a stack is brought to what its template and parameters say.

# Makes a change set for stack $1 from template $2, parameters $3 and tags $4 (JSON), shows it, asks
# where it takes something away, executes it and prints what happens. Fails when that does.
bring_up() {
    say "$1:"
    case $(seen_status "$1") in ROLLBACK_COMPLETE | ROLLBACK_FAILED | CREATE_FAILED) remove_try "$1" ;; esac
    change_set "$@"
    if [ -z "$CHANGE_SET" ]; then
        say "  no changes"
        return
    fi
    show_changes
    confirm
    known=$(last_event "$STACK_ID")
    started=$(date +%s)
    call cloudformation execute-change-set --change-set-name "$CHANGE_SET" || fail "  not started: $(reason)"
    # shellcheck disable=SC2034  # for change.sh, which would delete them
    CHANGE_SET='' MADE_STACK=''
    trap 'say "stopped watching; the deployment goes on: aws cloudformation describe-stack-events --stack-name $STACK_ID"; exit 130' INT
    watch_stack "$known"
    trap 'exit 130' INT
    case $CHANGE_TYPE/$STATUS in
    CREATE/CREATE_COMPLETE | UPDATE/UPDATE_COMPLETE)
        say "  ${GREEN}done in $(($(date +%s) - started)) s$PLAIN"
        return
        ;;
    esac
    say "  ${RED}failed, and is $STATUS$PLAIN; first cause:"
    awk -F '\t' '$3 ~ /_FAILED$/ { print "    " $4 " (" $5 "): " $6; exit }' "$WORK/all"
    tell_tasks "$STACK_ID"
    if [ "$CHANGE_TYPE/$STATUS" = CREATE/CREATE_FAILED ]; then
        if [ -n "${KEEP:-}" ]; then
            say "  kept as it is; the next make $TARGET removes it first"
        else
            remove_try "$STACK_ID"
            say "  KEEP=1 make $TARGET keeps it to be looked at"
        fi
        fail "stack $1: first deployment failed"
    fi
    fail "stack $1: deployment failed ($STATUS)"
}
