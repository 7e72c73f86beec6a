# The way of a change set: made, shown, and where it takes something away, asked about.

# What holds data, or is known to others by its name or address: replaced or removed, it is gone.
guarded_type() {
    case $1 in
    AWS::ServiceDiscovery::* | AWS::ElasticLoadBalancingV2::LoadBalancer | AWS::ElasticLoadBalancingV2::TargetGroup) ;;
    AWS::ElasticLoadBalancingV2::Listener | AWS::ElasticLoadBalancingV2::ListenerRule | AWS::Route53::RecordSet) ;;
    AWS::Logs::LogGroup | AWS::SecretsManager::Secret | AWS::ECS::Cluster | AWS::ECS::Service) ;;
    AWS::EC2::VPC | AWS::EC2::Subnet | AWS::EC2::EIP | AWS::EC2::NatGateway | AWS::S3::Bucket) ;;
    *) return 1 ;;
    esac
}

# What AWS takes as the body of a template in a request. More would have to lie in a bucket.
TEMPLATE_BYTES=51200

# Template $1 as it is sent. Comments stay here, so does what is for the checks and the console's
# form (Metadata), and each level is indented by one space.
compact() {
    awk '
        { match($0, /^ */); depth = RLENGTH }
        inside && (depth > skipped || /^ *$/) { next }
        { inside = 0 }
        /^ *(#|$)/ { next }
        /^(    )?Metadata:$/ { inside = 1; skipped = depth; next }
        {
            # Levels that this line ends; then its own, if that is new.
            while (n > 0 && from[n] > depth) n--
            if (n == 0 || from[n] < depth) { n++; from[n] = depth; to[n] = n > 1 ? to[n - 1] + 1 : 0 }
            printf "%*s%s\n", to[n], "", substr($0, depth + 1)
            # What stands behind the dash of an item is a level, too.
            while (substr($0, from[n] + 1, 2) == "- ") { n++; from[n] = from[n - 1] + 2; to[n] = to[n - 1] + 2 }
        }' "$1"
}

# Writes template $1 as it is sent to $WORK/template.yaml, unless AWS would not take it.
write_template() {
    compact "$1" >"$WORK/template.yaml"
    bytes=$(($(wc -c <"$WORK/template.yaml")))
    [ "$bytes" -le "$TEMPLATE_BYTES" ] ||
        missing "$1 has $bytes bytes as it is sent, without comments, and AWS takes $TEMPLATE_BYTES: nothing is changed"
}

# Makes a change set for stack $1 from template $2, parameters $3 and tags $4 (JSON). Sets
# CHANGE_SET (its ARN), STACK_ID and CHANGE_TYPE; CHANGE_SET is empty when nothing would change.
change_set() {
    stack=$1 template=$2
    printf '%s' "$3" >"$WORK/parameters.json"
    printf '%s' "$4" >"$WORK/tags.json"
    write_template "$template"
    read_stack "$stack"
    status=$(seen_status "$stack")
    case $status in
    ABSENT | REVIEW_IN_PROGRESS) CHANGE_TYPE=CREATE ;;
    ROLLBACK_COMPLETE | ROLLBACK_FAILED | CREATE_FAILED | DELETE_FAILED)
        fail "stack $stack is $status, which only deleting it ends: $UNDO" ;;
    UPDATE_ROLLBACK_FAILED)
        fail "stack $stack is $status: aws cloudformation continue-update-rollback --stack-name $stack" ;;
    *_IN_PROGRESS) fail "stack $stack is $status: wait until it is done" ;;
    *) CHANGE_TYPE=UPDATE ;;
    esac
    MADE_STACK=
    [ "$status" != ABSENT ] || MADE_STACK=$stack
    set -- --stack-name "$stack" --change-set-type "$CHANGE_TYPE" --change-set-name "make-$(date +%s)-$$" \
        --template-body "file://$WORK/template.yaml" --parameters "file://$WORK/parameters.json" \
        --capabilities CAPABILITY_IAM --tags "file://$WORK/tags.json" \
        --query '[Id, StackId]' --output text
    # Why a first deployment failed is asked of its tasks and its log, which deleting would end.
    [ "$CHANGE_TYPE" = UPDATE ] || set -- "$@" --on-stack-failure DO_NOTHING
    [ -z "${DRIFT:-}" ] || [ "$CHANGE_TYPE" = CREATE ] || set -- "$@" --deployment-mode REVERT_DRIFT
    ids=$(call cloudformation create-change-set "$@") || {
        why=$(reason)
        drop_review_stack
        fail "stack $stack: $why"
    }
    # shellcheck disable=SC2034  # for the scripts that include this file
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
    # A line for each resource, `#` before it, and one for each of its properties after it.
    call cloudformation describe-change-set --change-set-name "$CHANGE_SET" --include-property-values --output text \
        --query "(Changes || \`[]\`)[].ResourceChange.[
            [['#', Action, LogicalResourceId, ResourceType, Replacement || '-']],
            (Details || \`[]\`)[].Target.[Path || Name || Attribute, BeforeValue, AfterValue, RequiresRecreation]][][]" \
        >"$WORK/changes" || fail "$(reason)"
    if ! grep -q '^#' "$WORK/changes"; then
        say "  nothing but outputs or tags"
    fi
    replaced='' LOST=''
    : >"$WORK/guarded"
    grep '^#' "$WORK/changes" >"$WORK/resources" || true
    while IFS="$(printf '\t')" read -r _ action id type replacement; do
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
        case $mark in '!' | -) ! guarded_type "$type" || echo "$id ($type)${note:- REMOVED}" >>"$WORK/guarded" ;; esac
        ! loses_keys "$mark" "$type" || LOST=yes
        [ "$action" = Modify ] || continue
        properties "$id"
        # Secrets Manager makes another value when it is told to make one differently.
        [ "$type" != AWS::SecretsManager::Secret ] || ! grep -q GenerateSecretString "$WORK/properties" ||
            echo "$id ($type) VALUE REPLACED" >>"$WORK/guarded"
    done <"$WORK/resources"
    [ -z "$replaced" ] || say "  ${RED}replaced, with what they hold and their addresses:$replaced$PLAIN"
}

# The properties of resource $1 that change: before, after, and whether they force a replacement.
properties() {
    awk -F '\t' -v id="$1" '/^#/ { ours = $3 == id; next } ours' "$WORK/changes" | sort -u >"$WORK/properties"
    awk -F '\t' 'NF >= 4 {
        sub(/^\/Properties\//, "", $1)
        if ($2 == "None") $2 = "(absent)"
        if ($3 == "None") $3 = "(absent)"
        printf "      %s: %s -> %s%s\n", $1, $2, $3, ($4 == "Always" ? "  [forces replacement]" : "")
    }' "$WORK/properties"
}

# Whether no key outlives a change with mark $1 of a resource of type $2: tasks that find each other
# by another name begin an empty cluster, while those with the keys are ended.
loses_keys() {
    case $1$2 in
    '!AWS::ServiceDiscovery::'* | -AWS::ServiceDiscovery::* | -AWS::ECS::Service | -AWS::ECS::Cluster) return 0 ;;
    esac
    return 1
}

# Asks on a terminal before stack $1 is made: in another region or account than the one meant it would
# be a cluster of its own.
confirm_new() {
    [ -t 0 ] && [ -z "${YES:-}" ] || return 0
    asked "Stack $1 is not there. Make a new cluster in $WHERE? Type yes: " yes ||
        missing "not deployed: YES=1 make $TARGET does not ask"
}

# Lists what the change set takes away, and whether the data is among it.
tell_guarded() {
    sed 's/^/    /' "$WORK/guarded"
    [ -z "$LOST" ] ||
        say "  ${RED}all keys are lost: tasks that are started then find none that runs; take a backup first (make backup)$PLAIN"
}

# Stops where the change set takes away what `guarded_type` names, unless that is wanted.
confirm() {
    [ -s "$WORK/guarded" ] || return 0
    say "  ${RED}this takes away what holds data or what others know by its address:$PLAIN"
    tell_guarded
    [ -z "${REPLACE:-}" ] || return 0
    ! asked "  Type yes to go on in $WHERE: " yes || return 0
    missing "not deployed: REPLACE=1 make $TARGET goes on all the same"
}
