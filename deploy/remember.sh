# What a deployment starts from. For a stack that exists, whatever the caller leaves out is as the
# stack has it: environment, VPC and subnets, tags, and every parameter. Of two values of one
# parameter the later in this list counts:
#
#   1. the template's default
#   2. the stack's
#   3. the line in cloudformation/parameters/ENVIRONMENT
#   4. SET
#   5. what the scripts fill in: VPC, subnets, image, count of tasks
#
# For the backups what their stack takes from the service's (follow.sh) counts between 2 and 3.
#
# A line that is taken out of a file therefore leaves the stack as it is; to go back to a default,
# write the default.

# The value of key $2 in file $1 of lines Key=Value, the last of several, or nothing.
value() { awk -v key="$2" 'index($0, key "=") == 1 { found = substr($0, length(key) + 2) } END { print found }' "$1"; }

# Finds the service's stacks, and with them the environment: a stack is not deployed to by another
# than its own, and one that does not say which is its own takes none by default.
find_stacks() {
    need_folder
    read_stack "$STACK"
    read_stack "$NETWORK_STACK"
    find_environment
    [ -z "$(stack_parameter "$STACK" ServerUrl)" ] || missing "stack $STACK is one of backups, not of a service"
    if [ -z "$ENVIRONMENT" ]; then
        case $(seen_status "$STACK") in
        ABSENT | REVIEW_IN_PROGRESS) ;;
        *) missing "stack $STACK does not say its environment: ENVIRONMENT=..., which it remembers from then on" ;;
        esac
        ENVIRONMENT=default
    fi
    PARAMETERS=$ROOT/cloudformation/parameters/$ENVIRONMENT
    [ -d "$PARAMETERS" ] || say "there is no folder $PARAMETERS: parameters stay as the stack has them"
}

# The service's stacks, and what is said of their parameters. SET may also have those of the template $ALSO.
recall() {
    find_stacks
    read_template network "$NETWORK_TEMPLATE"
    read_template service "$SERVICE_TEMPLATE"
    check_set network service ${ALSO:+"$ALSO"}
    settings network "$NETWORK_STACK"
    settings service "$STACK"
}

# Every word of SET is a parameter of one of the templates $@.
check_set() {
    for pair in ${SET:-}; do
        case $pair in [A-Za-z]*=*) ;; *) missing "SET takes Key=Value, not $pair" ;; esac
        for each; do
            ! has_parameter "$each" "${pair%%=*}" || continue 2
        done
        missing "SET: there is no parameter ${pair%%=*} of $(printf '%s' "$*" | sed 's/ / or /g')"
    done
}

# The environment that the stacks carry, unless it is another that is asked for.
find_environment() {
    known=$(stack_tag "$STACK" environment)
    known=${known:-$(stack_tag "$NETWORK_STACK" environment)}
    [ -z "$known" ] || [ "${ENVIRONMENT:-$known}" = "$known" ] ||
        missing "stack $STACK is of environment $known, not $ENVIRONMENT: another STACK= is meant, or ENVIRONMENT=$known"
    ENVIRONMENT=${ENVIRONMENT:-$known}
}

# The parameters of template $2 and their defaults, in $WORK/$1.template (Key=Default).
read_template() {
    awk '
        /^[A-Za-z]/ { inside = /^Parameters:/; next }
        !inside { next }
        /^  [A-Za-z0-9]+:/ { if (name != "") print name "=" value; name = $1; sub(/:$/, "", name); value = "" }
        /^    Default: / { value = substr($0, 14); gsub(/^"|"$/, "", value) }
        END { if (name != "") print name "=" value }' "$2" >"$WORK/$1.template"
    [ -s "$WORK/$1.template" ] || missing "$2: not a template in YAML with parameters"
}

# What stack $2 and the caller say of the parameters of template $1, in $WORK/$1.settings
# (Key=Value). $WORK/$1.derived, if it is there, counts more than the stack and less than the caller.
settings() {
    : >"$WORK/$1.file"
    [ -f "$WORK/$1.derived" ] || : >"$WORK/$1.derived"
    if [ -f "$PARAMETERS/$1.params" ]; then
        grep -v '^[[:space:]]*\(#\|$\)' "$PARAMETERS/$1.params" >"$WORK/$1.file" || true
    fi
    while IFS='=' read -r key rest; do
        grep -q "^$key=" "$WORK/$1.template" || missing "$PARAMETERS/$1.params: the template has no parameter $key${rest:+=$rest}"
    done <"$WORK/$1.file"
    # shellcheck disable=SC2086  # words of SET
    { seen "$2" parameter '' | awk -F '\t' '{ print $2 "=" $3 }'; cat "$WORK/$1.derived" "$WORK/$1.file"; printf '%s\n' ${SET:-}; } | awk -F = '
        NR == FNR { has[$1] = 1; next }
        $1 in has' "$WORK/$1.template" - >"$WORK/$1.settings"
}

# The value that parameter $2 of template $1 is going to have.
setting() {
    if grep -q "^$2=" "$WORK/$1.settings"; then value "$WORK/$1.settings" "$2"; else value "$WORK/$1.template" "$2"; fi
}
has_parameter() { grep -q "^$2=" "$WORK/$1.template"; }

# Parameters of template $1 as JSON: its settings, then the arguments, of which the template takes
# those it has; of two, the later counts.
parameters() {
    which=$1
    shift
    { cat "$WORK/$which.settings"; printf '%s\n' "$@"; } | awk '
        NR == FNR { has[substr($0, 1, index($0, "=") - 1)] = 1; next }
        /=/ {
            key = substr($0, 1, index($0, "=") - 1); value = substr($0, index($0, "=") + 1)
            if (!(key in has)) next
            gsub(/\\/, "\\\\", value); gsub(/"/, "\\\"", value)
            if (!(key in values)) order[++n] = key
            values[key] = value
        }
        END {
            printf "["
            for (i = 1; i <= n; i++)
                printf "%s{\"ParameterKey\":\"%s\",\"ParameterValue\":\"%s\"}", (i > 1 ? "," : ""), order[i], values[order[i]]
            print "]"
        }' "$WORK/$which.template" -
}

# The tags of stack $1 as JSON: its own, TAGS, and the two by which it is known again.
tags() {
    # shellcheck disable=SC2086  # words of TAGS
    { seen "$1" tag '' | cut -f 2-; printf '%s\n' ${TAGS:-} application=gossipykv "environment=$ENVIRONMENT" | sed 's/=/	/'; } | awk -F '\t' '
        $1 != "" && $1 !~ /^aws:/ {
            gsub(/\\/, "\\\\"); gsub(/"/, "\\\"")
            if (!($1 in values)) order[++n] = $1
            values[$1] = $2
        }
        END {
            printf "["
            for (i = 1; i <= n; i++) printf "%s{\"Key\":\"%s\",\"Value\":\"%s\"}", (i > 1 ? "," : ""), order[i], values[order[i]]
            print "]"
        }'
}

# Whose network it is: OWN_NETWORK is empty where the VPC is given or the stack was deployed to one.
find_owner() {
    OWN_NETWORK=
    known=$(stack_parameter "$STACK" VpcId)
    if [ -z "${VPC_ID:-}" ] && [ -n "$known" ]; then
        if [ "$(stack_output "$NETWORK_STACK" VpcId)" = "$known" ]; then
            OWN_NETWORK=yes
            return
        fi
        VPC_ID=$known
    fi
    if [ -z "${VPC_ID:-}" ]; then
        OWN_NETWORK=yes
        return
    fi
    if [ "$VPC_ID" = "$known" ]; then
        PUBLIC_SUBNET_IDS=${PUBLIC_SUBNET_IDS:-$(stack_parameter "$STACK" PublicSubnetIds)}
        PRIVATE_SUBNET_IDS=${PRIVATE_SUBNET_IDS:-$(stack_parameter "$STACK" PrivateSubnetIds)}
    fi
    [ "$(setting service Scheme)" != internal ] || PUBLIC_SUBNET_IDS=${PUBLIC_SUBNET_IDS:-${PRIVATE_SUBNET_IDS:-}}
    case /${PUBLIC_SUBNET_IDS:=}/${PRIVATE_SUBNET_IDS:=}/ in
    *//*) missing "VPC_ID is given: PUBLIC_SUBNET_IDS and PRIVATE_SUBNET_IDS are needed too" ;;
    esac
}

# Takes the VPC from the network stack where that is ours.
find_network() {
    [ -n "$OWN_NETWORK" ] || return 0
    read_stack "$NETWORK_STACK"
    VPC_ID=$(stack_output "$NETWORK_STACK" VpcId)
    PRIVATE_SUBNET_IDS=$(stack_output "$NETWORK_STACK" PrivateSubnetIds)
    PUBLIC_SUBNET_IDS=$(stack_output "$NETWORK_STACK" PublicSubnetIds)
    # A load balancer has no place in subnets without IPv4.
    case $(setting service Scheme)/$(setting network IpStack) in
    internal/dualstack) PUBLIC_SUBNET_IDS=$PRIVATE_SUBNET_IDS ;;
    esac
}

# Whether parameter $2 of template $1 is said or known, and not only a default.
is_set() { grep -q "^$2=" "$WORK/$1.settings"; }

# What would fail only after the network and the image are made, or should not succeed.
check_settings() {
    if [ "$(setting service Scheme)" = internet-facing ] && [ "$(setting service AllowPlainHttp)" = false ] &&
        [ -z "$(setting service CertificateArn)$(setting service HostedZoneId)$(setting service ListenerArn)" ]; then
        missing "the API would be plain HTTP on public addresses, for everybody on the way to read the token and all keys:
give CertificateArn, or HostedZoneId and DomainName, or Scheme=internal, or to try it AllowPlainHttp=true
(in $PARAMETERS/service.params, or as SET=AllowPlainHttp=true)"
    fi
    # The network would be made by the time that the service's template is refused.
    write_template "$SERVICE_TEMPLATE"
    [ -z "$OWN_NETWORK" ] || [ "$(setting network IpStack)" = "$(setting service IpStack)" ] ||
        missing "IpStack is $(setting network IpStack) for the network and $(setting service IpStack) for the service: say the same in both files of $PARAMETERS, or by SET"
}

# The parameters of the network. Where nobody says how many zones a new one has, the region does.
network_parameters() {
    zones=
    if ! is_set network ZoneCount; then
        zones=$(call ec2 describe-availability-zones --filters Name=zone-type,Values=availability-zone Name=state,Values=available \
            --query 'length(AvailabilityZones)' --output text) || zones=
        [ "$zones" = 2 ] || zones=
    fi
    parameters network ${zones:+"ZoneCount=$zones"}
}

# The load balancer's kind of addresses for a new service in a VPC that is given: the subnets tell.
find_address_type() {
    ADDRESS_TYPE=
    [ -z "$OWN_NETWORK" ] && ! is_set service IpAddressType || return 0
    # shellcheck disable=SC2046  # a list
    call ec2 describe-subnets --subnet-ids $(printf '%s' "$PUBLIC_SUBNET_IDS" | tr , ' ') --output text \
        --query "Subnets[].[length((Ipv6CidrBlockAssociationSet || \`[]\`)[?!(contains(
            ['disassociating', 'disassociated', 'failing', 'failed'], Ipv6CidrBlockState.State))])]" \
        >"$WORK/blocks" || fail "the subnets of the load balancer cannot be read: $(reason)"
    ! grep -qx 0 "$WORK/blocks" || ADDRESS_TYPE=ipv4
}

# Sets COUNT to the tasks that autoscaling wants now, so that a deployment does not undo it.
find_count() {
    COUNT=
    cluster=$(stack_output "$STACK" ClusterName)
    service=$(stack_output "$STACK" ServiceName)
    [ -n "$cluster" ] && [ -n "$service" ] || return 0
    COUNT=$(call ecs describe-services --cluster "$cluster" --services "$service" \
        --query 'services[0].desiredCount' --output text) || COUNT=
    case $COUNT in *[!0-9]* | 0 | 1) COUNT= ;; esac
}

# The parameters of the service; IMAGE_URI and the network are known by then.
service_parameters() {
    find_count
    find_address_type
    parameters service "VpcId=$VPC_ID" "PublicSubnetIds=$PUBLIC_SUBNET_IDS" \
        "PrivateSubnetIds=$PRIVATE_SUBNET_IDS" "ImageUri=$IMAGE_URI" \
        ${ADDRESS_TYPE:+"IpAddressType=$ADDRESS_TYPE"} \
        ${REPOSITORY_ARN:+"RepositoryArn=$REPOSITORY_ARN"} ${COUNT:+"DesiredCount=$COUNT"}
}

# The image: the one that is given, else one of these sources for the machine that tasks run on.
find_image() {
    case $(setting service CpuArchitecture) in X86_64) machine=amd64 ;; *) machine=arm64 ;; esac
    [ "${ARCH:-$machine}" = "$machine" ] ||
        missing "ARCH=$ARCH, but tasks of $STACK run on $machine: CpuArchitecture in $PARAMETERS/service.params, or SET=CpuArchitecture=..., changes that"
    export ENVIRONMENT
    if [ -z "${IMAGE_URI:-}" ]; then
        IMAGE_URI=$(ARCH=$machine "$ROOT/deploy/image.sh" ensure) || exit
    fi
    # Tasks without IPv4 fetch images from ECR by its other address.
    if [ "$(setting service IpStack)" = ipv6 ]; then
        IMAGE_URI=$(printf '%s' "$IMAGE_URI" | sed 's#^\([0-9]*\)\.dkr\.ecr\.\([a-z0-9-]*\)\.amazonaws\.com/#\1.dkr-ecr.\2.on.aws/#')
    fi
    # Our tags end in the machine that the image is for; a digest is looked up for its tags.
    names=${IMAGE_URI##*/}
    REPOSITORY_ARN=
    case $IMAGE_URI in
    [0-9]*.dkr.ecr.*/* | [0-9]*.dkr-ecr.*/*)
        registry=${IMAGE_URI%%/*} name=${IMAGE_URI#*/}
        account=${registry%%.*}
        region=${registry#*.*.}
        region=${region#ecr.}
        name=${name%%@*}
        name=${name%%:*}
        REPOSITORY_ARN=arn:$PARTITION:ecr:${region%%.*}:$account:repository/$name
        case $IMAGE_URI in
        *@*)
            names=$(call ecr describe-images --registry-id "$account" --repository-name "$name" \
                --image-ids "imageDigest=${IMAGE_URI##*@}" --query 'imageDetails[].imageTags[]' --output text) || names=
            ;;
        esac
        ;;
    esac
    for name in $names; do
        case $name/$machine in
        *-amd64/arm64 | *-arm64/amd64) missing "$IMAGE_URI is ${name##*:}, but tasks of $STACK run on $machine" ;;
        esac
    done
}
