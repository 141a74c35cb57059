// Prints what node_modules lacks: `install` where it is not what package-lock.json says, `rebuild` where fs-ext does not
// load in this Node (it is built for one major version).
const fs = require('node:fs');
const path = require('node:path');

const checkout = path.join(__dirname, '..');
const { packages: wanted } = require(path.join(checkout, 'package-lock.json'));

function installedPackages() {
  try {
    return require(path.join(checkout, 'node_modules/.package-lock.json')).packages;
  } catch {
    return {};
  }
}

function isInstalled() {
  const installed = installedPackages();
  return Object.entries(wanted).every(([place, { version, optional }]) => {
    if (place === '') return true;
    if (!installed[place]) return optional === true;
    return installed[place].version === version && fs.existsSync(path.join(checkout, place));
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
