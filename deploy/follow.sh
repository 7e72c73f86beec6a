# How the stack of backups follows the service's: what it runs, asks and is told by is the service's,
# unless the caller says otherwise. Each bring-up takes it anew, so that what differs on purpose
# belongs into cloudformation/parameters/ENVIRONMENT/backup.params.

# Whether the stack of that name is one of backups; an environment may be called backup.
is_backup() { [ -n "$(stack_parameter "$BACKUP_STACK" ServerUrl)" ]; }

# What the service's stack says of the parameters of the backups', in $WORK/backup.derived
# (Key=Value). What it does not say stays as it is.
derive() {
    prefix=
    [ -n "$(stack_parameter "$BACKUP_STACK" Prefix)" ] || prefix=$STACK
    {
        printf '%s\n' "ServerUrl=$(stack_output "$STACK" ApiUrl)" "ClusterName=$(stack_output "$STACK" ClusterName)" \
            "HttpTokenSecretArn=$(stack_output "$STACK" HttpTokenSecret)" \
            "SubnetIds=$(stack_parameter "$STACK" PrivateSubnetIds)" "Prefix=$prefix"
        for each in ImageUri RepositoryName RepositoryArn CpuArchitecture VpcId IpStack SecretsKmsKeyArn \
            LogKmsKeyArn PermissionsBoundaryArn AlarmTopicArn; do
            printf '%s\n' "$each=$(stack_parameter "$STACK" "$each")"
        done
    } | grep -v '=$' >"$WORK/backup.derived" || true
    [ "$(stack_parameter "$STACK" HttpToken)" != none ] || echo HttpTokenSecretArn= >>"$WORK/backup.derived"
    read_template backup "$BACKUP_TEMPLATE"
    settings backup "$BACKUP_STACK"
}

# Says in one line what the stack of backups still has as the service had it.
tell_backup() {
    read_stack "$BACKUP_STACK"
    is_backup || return 0
    derive
    behind=
    while IFS='=' read -r key _; do
        [ "$(setting backup "$key")" = "$(stack_parameter "$BACKUP_STACK" "$key")" ] || behind="$behind, $key"
    done <"$WORK/backup.derived"
    [ -z "$behind" ] || say "$BACKUP_STACK is behind in ${behind#, }: make backup brings it along"
}
