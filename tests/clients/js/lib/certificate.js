// A certificate for 127.0.0.1, made by openssl.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A certificate that signs itself and its key, both PEM. `kind` as `openssl req -newkey` names it. */
export function makeCertificate(kind = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']) {
  const folder = mkdtempSync(path.join(tmpdir(), 'tidewire-test-'));
  try {
    const [certificate, key] = ['certificate.pem', 'key.pem'].map((name) => path.join(folder, name));
    execFileSync('openssl', ['req', '-x509', '-newkey', ...kind, '-noenc', '-days', '2', '-subj', '/CN=localhost',
      '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost', '-keyout', key, '-out', certificate], { stdio: 'ignore' });
    return { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
