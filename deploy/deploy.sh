#!/bin/sh
# Brings the network (unless a VPC is given) and the service to what the templates and parameters
# say, and prints the API's URL. What the caller leaves out is as the stack has it (remember.sh).
# CloudFormation undoes what fails.
#
# IMAGE_URI    the image to run [one made of these sources: looked up, else built and pushed]
# REPLACE=1    goes on where something that holds data or has an address is replaced or removed
# YES=1        does not ask on a terminal before a stack is made that is not there yet
# KEEP=1       keeps what a failed first deployment leaves, to look at
. "$(dirname -- "$0")/lib.sh"
. "$(dirname -- "$0")/remember.sh"
. "$(dirname -- "$0")/change.sh"
. "$(dirname -- "$0")/watch.sh"
. "$(dirname -- "$0")/bring.sh"
. "$(dirname -- "$0")/follow.sh"
need_aws
CLEANUP=drop_change_set

# Termination protection goes with DeletionProtection; what was protected by hand stays so.
protect() {
    case $(setting service DeletionProtection)/$WAS_PROTECTED in
    true/*) switch=--enable-termination-protection ;;
    false/true) switch=--no-enable-termination-protection ;;
    *) return 0 ;;
    esac
    call cloudformation update-termination-protection "$switch" --stack-name "$1" >/dev/null || fail "stack $1: $(reason)"
}

# shellcheck disable=SC2034  # remember.sh looks there
ALSO=
recall
find_owner
check_settings
case $(seen_status "$STACK") in ABSENT | REVIEW_IN_PROGRESS) confirm_new "$STACK" ;; esac
find_image
if [ -n "$OWN_NETWORK" ]; then
    values=$(network_parameters)
    bring_up "$NETWORK_STACK" "$NETWORK_TEMPLATE" "$values" "$(tags "$NETWORK_STACK")"
fi
find_network
WAS_PROTECTED=$(stack_parameter "$STACK" DeletionProtection)
values=$(service_parameters)
bring_up "$STACK" "$SERVICE_TEMPLATE" "$values" "$(tags "$STACK")"
[ -z "$OWN_NETWORK" ] || protect "$NETWORK_STACK"
protect "$STACK"
read_stack "$STACK"
url=$(stack_output "$STACK" ApiUrl)
say "API: ${url:-"by the name of its certificate, once that is an alias of $(stack_output "$STACK" LoadBalancerHost)"}"
secret=$(stack_output "$STACK" HttpTokenSecret)
[ -z "$secret" ] ||
    say "token: aws secretsmanager get-secret-value --secret-id $secret --query SecretString --output text"
# What it says comes after the deployment and is no part of it.
(tell_backup) || true
