#!/bin/sh
# The first process of a pod, at its every start: lets the owner in over SSH, and keeps the pod up.
#
# PUBLIC_KEY       whom to let in
# STYX_HOST_KEY    private host key, base64; without it one is made
# STYX_BOOT        script to run once sshd is up, base64
# STYX_KEEP        folder that outlives a stop; the home folder goes there
umask 077
home=/root
if [ -n "$STYX_KEEP" ]; then
    home=$STYX_KEEP/home
    mkdir -p "$home"
    for file in .bashrc .profile; do
        [ -e "$home/$file" ] || cp "/root/$file" "$home/$file" 2>/dev/null
    done
    sed -i "s|^\(root:[^:]*:0:0:[^:]*:\)[^:]*:|\1$home:|" /etc/passwd
fi

sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd)
if [ -z "$sshd" ]; then
    if command -v apt-get; then
        apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openssh-server
    elif command -v dnf; then
        dnf install -y openssh-server
    elif command -v yum; then
        yum install -y openssh-server
    elif command -v apk; then
        apk add --no-cache openssh
    fi >/tmp/styx-sshd.log 2>&1
    sshd=$(PATH=$PATH:/usr/sbin:/sbin command -v sshd)
fi

mkdir -p "$home/.ssh" /etc/ssh
mkdir -p -m 755 /run/sshd
printf '%s\n' "$PUBLIC_KEY" >"$home/.ssh/authorized_keys"
key=$home/.ssh/styx_host_key
if [ -n "$STYX_HOST_KEY" ]; then
    printf '%s' "$STYX_HOST_KEY" | base64 -d >"$key"
elif [ ! -e "$key" ]; then
    ssh-keygen -q -t ed25519 -N '' -f "$key"
fi
# What the image and the task set for the container is there in logins too; our own and RunPod's secrets are not.
env | grep -E '^[A-Za-z_][A-Za-z0-9_]*=' |
    grep -vE '^(STYX_[A-Z_]*|PUBLIC_KEY|RUNPOD_API_KEY|HOME|PWD|OLDPWD|SHLVL|HOSTNAME|TERM|_)=' >"$home/.ssh/environment"
sed -i 's/^root:!/root:*/' /etc/shadow # a locked account has no logins at all
cat >/etc/ssh/styx_sshd_config <<END
Port 22
HostKey $key
AuthorizedKeysFile $home/.ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
PermitUserEnvironment yes
StrictModes no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
END
"$sshd" -f /etc/ssh/styx_sshd_config

if [ -n "$STYX_BOOT" ]; then
    printf '%s' "$STYX_BOOT" | base64 -d >/tmp/styx-boot
    (
        unset RUNPOD_API_KEY PUBLIC_KEY STYX_HOST_KEY STYX_BOOT STYX_TOKEN STYX_STORE STYX_REGION STYX_MARKET STYX_KEEP
        HOME=$home exec sh /tmp/styx-boot </dev/null >/tmp/styx-boot.log 2>&1
    ) &
fi
trap 'exit 0' TERM INT
while :; do # and bury orphans meanwhile
    sleep 3600 &
    wait $!
done
