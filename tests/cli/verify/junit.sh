#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
"$UNZERO" verify --format junit "$FIXTURES/bad-empty-file" >report.xml || [ $? -eq 1 ]
has report.xml "<failure message=\"not sound\"/>" "name=\"UZV020 empty-file: " "</testsuites>"
if command -v xmllint >/dev/null 2>&1; then
    xmllint --noout report.xml
fi
