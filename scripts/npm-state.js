// Prints what node_modules lacks: `install` where it is not what package-lock.json says, `rebuild` where fs-ext does not
// load in this Node (it is built for one major version).
const { existsSync } = require('node:fs');
const { join } = require('node:path');

const checkout = join(__dirname, '..');
const { packages: wanted } = require(join(checkout, 'package-lock.json'));

function installedPackages() {
  try {
    return require(join(checkout, 'node_modules/.package-lock.json')).packages;
  } catch {
    return {};
  }
}

function isInstalled() {
  const installed = installedPackages();
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === '') return true;
    if (!installed[path]) return optional === true;
    return installed[path].version === version && existsSync(join(checkout, path));
  });
}

function isFsExtLoadable() {
  try {
    require('fs-ext');
    return true;
  } catch {
    return false;
  }
}

if (!isInstalled()) console.log('install');
if (!isFsExtLoadable()) console.log('rebuild');
