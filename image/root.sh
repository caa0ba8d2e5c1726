#!/bin/sh
# The Debian part of the image, laid out in a folder:  root.sh PACKAGES ROOT
#
# Packages are unpacked and not configured: their scripts need a shell, which the image has not, and do nothing here
# that is of use. dpkg's database is written all the same: scanners, `dpkg --root` and the SBOM read it.
set -eu
umask 022
export LC_ALL=C  # the order of names
list=$1
root=$2
fetched=$(mktemp -d)
here=$PWD

# As every Debian since 12 has it. The packages still name /lib, and are unpacked through these links.
mkdir -p "$root/var/lib/dpkg/info"
for folder in bin lib lib64 sbin; do
  mkdir -p "$root/usr/$folder"
  ln -s "usr/$folder" "$root/$folder"
done

echo 1 > "$root/var/lib/dpkg/info/format"  # names of files with an architecture, see below

cd "$fetched"
# shellcheck disable=SC2046 # a word for each package
apt-get download -qq -o APT::Sandbox::User=root $(sed 's/#.*//' "$here/$list")
for package in *.deb; do
  name=$(dpkg-deb -f "$package" Package)
  # Packages of which a system may have two architectures bear it in the names of these files.
  [ "$(dpkg-deb -f "$package" Multi-Arch)" != same ] || name=$name:$(dpkg-deb -f "$package" Architecture)
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink
  dpkg-deb --fsys-tarfile "$package" | tar -t | sed -e 's|^\.||' -e 's|/$||' -e 's|^$|/.|' \
    > "$root/var/lib/dpkg/info/$name.list"
  dpkg-deb --ctrl-tarfile "$package" | tar -x -O ./md5sums > "$root/var/lib/dpkg/info/$name.md5sums"
  dpkg-deb -f "$package" | sed '/^Package:/a Status: install ok installed' >> "$root/var/lib/dpkg/status"
  echo >> "$root/var/lib/dpkg/status"
done
cd "$root"
rm -r "$fetched"

# Manuals, translations, a debugger's helpers; Debian's own slim images leave out most of it as well. Each package's
# copyright stays, and the links by which several share one.
find usr/share/doc -mindepth 2 ! -type d ! -name copyright -delete
find usr/share/doc -type d -empty -delete
rm -rf usr/share/man usr/share/info usr/share/lintian usr/share/locale usr/share/gdb usr/share/gcc
# Parts of Python whose libraries are left out: terminals, databases, NIS.
dynamic=usr/lib/python3.11/lib-dynload
rm "$dynamic"/_curses*.so "$dynamic"/_dbm*.so "$dynamic"/_sqlite3*.so "$dynamic"/nis*.so "$dynamic"/readline*.so
# Character sets of other ages: the image speaks UTF-8.
rm -rf usr/lib/*/gconv

# /var/local belongs to a group that may write it, which nobody here is in.
chown -R root:root . && chmod -R u-s,g-s .

# What the packages' scripts would have written.
printf 'passwd: files\ngroup: files\nhosts: files dns\n' > etc/nsswitch.conf
printf 'root:x:0:0:root:/root:/usr/sbin/nologin\ncdmo:x:65532:65532:cdmo:/nonexistent:/usr/sbin/nologin\n' > etc/passwd
printf 'root:x:0:\ncdmo:x:65532:\n' > etc/group
